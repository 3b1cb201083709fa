"""What each layer keeps per token or per sequence, by the rules of llama.cpp's hparams and architectures."""

from collections.abc import Mapping

from rpc_wrapper.errors import GGUFError
from rpc_wrapper.planner.header import SkippedArray, Value

# Every n-th layer attends to everything, the others to a window only; files of these architectures do not say so
# (their load_arch_hparams in llama.cpp's src/models). An unknown architecture is planned as if all layers were full.
_WINDOW_PERIOD = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4}
_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}  # llm_arch_is_recurrent
_BOTH_KINDS = {"falcon-h1"}  # every layer has attention and a recurrent state
_TWIN_STATES = {"qwen3next", "qwen35", "qwen35moe"}  # every full_attention_interval-th layer attends
_FIRST_PARTY_RWKV = ("rwkv", "arwkv")


class Keys:
    """Typed access to the metadata; architecture keys are given without their prefix."""

    def __init__(self, metadata: Mapping[str, Value]) -> None:
        self._metadata = metadata
        self.architecture = self.text("general.architecture")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._metadata.get(key, default)
        if not isinstance(value, str):
            raise GGUFError(f"{key!r} is {_shown(value)}, a string is needed: the file is no complete model")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        return _count(f"{self.architecture}.{key}", self._metadata.get(f"{self.architecture}.{key}", default))

    def per_layer(self, key: str, n_layer: int, default: int | tuple[int, ...]) -> tuple[int, ...]:
        name = f"{self.architecture}.{key}"
        value = self._metadata.get(name, default)
        if isinstance(value, tuple):
            if len(value) < n_layer:
                raise GGUFError(f"{name!r} has {len(value)} entries for {n_layer} blocks: the file is damaged")
            return tuple(_count(name, each) for each in value[:n_layer])
        return (_count(name, value),) * n_layer

    def flags(self, key: str, n_layer: int) -> tuple[bool, ...] | None:
        value = self._metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple) and len(value) >= n_layer:
            return tuple(bool(each) for each in value[:n_layer])
        return None

    def vocabulary(self) -> int:
        value = self._metadata.get("tokenizer.ggml.tokens")
        return value.length if isinstance(value, SkippedArray) else 0


class Widths:
    """KV cache and recurrent state widths per layer, by the rules of llama-hparams.cpp."""

    def __init__(self, keys: Keys, n_head_kv: tuple[int, ...], head_dim_k: int, head_dim_v: int) -> None:
        self.head_dim_k = head_dim_k
        self.head_dim_v = head_dim_v
        self.n_window = keys.number("attention.sliding_window", 0)
        self._n_head_kv = n_head_kv
        self._windowed = _windowed_layers(keys, len(n_head_kv)) if self.n_window else (False,) * len(n_head_kv)
        self._is_mla = keys.number("attention.key_length_mla", 0) > 0  # such a cache keeps K only
        self._dim_k_window = keys.number("attention.key_length_swa", head_dim_k)
        self._dim_v_window = keys.number("attention.value_length_swa", head_dim_v)
        self._state = _state_width(keys, len(n_head_kv))
        self.n_inner = keys.number("ssm.inner_size", 0)
        self._keeps_both = keys.architecture in _BOTH_KINDS

    def cache(self, index: int) -> tuple[int, int]:
        """Return the elements of K and of V that one token keeps in this layer."""
        if self._state[index] and not self._keeps_both:
            return 0, 0
        heads = self._n_head_kv[index]
        windowed = self._windowed[index]
        k = heads * (self._dim_k_window if windowed else self.head_dim_k)
        v = heads * (self._dim_v_window if windowed else self.head_dim_v)
        return k, 0 if self._is_mla else v

    def state(self, index: int) -> int:
        """Return the elements of recurrent state that one sequence keeps in this layer."""
        return self._state[index]

    def is_windowed(self, index: int) -> bool:
        """Tell whether the layer attends to the last ``n_window`` tokens only."""
        return self._windowed[index]


def _windowed_layers(keys: Keys, n_layer: int) -> tuple[bool, ...]:
    listed = keys.flags("attention.sliding_window_pattern", n_layer)
    if listed is not None:
        return listed
    period = _WINDOW_PERIOD.get(keys.architecture)
    if period is None:
        return (False,) * n_layer
    return tuple(index % period < period - 1 for index in range(n_layer))


def _state_width(keys: Keys, n_layer: int) -> tuple[int, ...]:
    """Return per layer how many elements of state a sequence keeps (n_embd_r + n_embd_s in llama-hparams.cpp)."""
    if keys.architecture.startswith(_FIRST_PARTY_RWKV):
        n_embd, head = keys.number("embedding_length"), keys.number("wkv.head_size", 64)
        return ((keys.number("token_shift_count", 2) + head) * n_embd,) * n_layer
    shortconv = keys.number("shortconv.l_cache", 0)
    if shortconv:
        width = keys.number("embedding_length") * (shortconv - 1)
    else:
        d_conv, d_inner = keys.number("ssm.conv_kernel", 0), keys.number("ssm.inner_size", 0)
        d_state, n_group = keys.number("ssm.state_size", 0), keys.number("ssm.group_count", 0)
        width = max(d_conv - 1, 0) * (d_inner + 2 * n_group * d_state) + d_state * d_inner
    return tuple(width if recurrent else 0 for recurrent in _recurrent_layers(keys, n_layer))


def _recurrent_layers(keys: Keys, n_layer: int) -> tuple[bool, ...]:
    if keys.architecture in _RECURRENT | _BOTH_KINDS:
        return (True,) * n_layer
    if keys.architecture in _TWIN_STATES:
        interval = keys.number("full_attention_interval", 4)
        return tuple((index + 1) % interval != 0 for index in range(n_layer))
    return tuple(heads == 0 for heads in keys.per_layer("attention.head_count_kv", n_layer, 1))


def _count(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise GGUFError(f"{key!r} is {_shown(value)}, a count is needed: the file is no complete model")
    return value


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]
