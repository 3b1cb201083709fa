"""What a GGUF says about its model, as far as placement and memory need it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gguf.constants import LlamaFileType

from rpc_wrapper.errors import GGUFError
from rpc_wrapper.planner.header import Header, TensorInfo, Value, read_header
from rpc_wrapper.planner.layers import Keys, Widths

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS, llama-hparams.h
MAX_FILES = 1000
_BLOCK = re.compile(r"blk\.(\d+)\.")
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
# Tensors that only the host's input layer reads (LLM_TENSOR_LAYER_INPUT in llama-arch.cpp).
_INPUT = ("token_embd.", "position_embd.", "token_types.", "token_embd_norm.", "per_layer_token_embd.")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the model: its ggml shape, type name, size, and the number of the file that holds it."""

    name: str
    shape: tuple[int, ...]
    type: str
    size_bytes: int
    file: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """What one transformer block costs: weights, KV cache widths in elements per token, recurrent state in elements.

    ``active_bytes`` are the weights that one token reads: of a mixture of experts only those that are used.
    """

    weights_bytes: int
    active_bytes: int
    k_width: int
    v_width: int
    state_width: int = 0
    is_windowed: bool = False


@dataclass(frozen=True)
class ModelProfile:
    """A model, as the planner sees it; every size is in bytes, every width in elements."""

    name: str
    architecture: str
    file_type: str
    quantisation: str
    blocks: tuple[Block, ...]
    embedding_bytes: int
    output_bytes: int
    shared_bytes: int
    is_tied: bool
    n_vocab: int
    n_embd: int
    n_ff: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    head_dim_k: int
    head_dim_v: int
    n_ctx_train: int
    n_expert: int = 0
    n_expert_used: int = 0
    n_window: int = 0
    n_inner: int = 0
    tokenizer: str = ""
    has_chat_template: bool = False
    files: tuple[str, ...] = ()
    tensors: tuple[Tensor, ...] = ()

    @property
    def n_layer(self) -> int:
        """Return the number of blocks."""
        return len(self.blocks)

    @cached_property
    def file_bytes(self) -> int:
        """Return the size of all tensors in the file, each counted once."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @cached_property
    def n_params(self) -> int:
        """Return the number of parameters."""
        return sum(_product(tensor.shape) for tensor in self.tensors)

    def kv_bytes_per_token(self, bytes_per_item: float = 2.0) -> int:
        """Return what one token keeps in all blocks' caches together, by default in f16."""
        return round(bytes_per_item * sum(block.k_width + block.v_width for block in self.blocks))

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values, tensors included."""
        return {"n_layer": self.n_layer, "file_bytes": self.file_bytes, "n_params": self.n_params} | asdict(self)


def read_profile(path: Path) -> ModelProfile:
    """Read a model's profile from its file, or from the first of its split files; raise GGUFError."""
    paths = model_files(path)
    headers = [_read_file(each) for each in paths]
    _check_split(paths, headers)
    tensors = tuple(_tensor(info, number) for number, header in enumerate(headers) for info in header.tensors)
    _check_unique(tensors)
    return make_profile(headers[0].metadata, tensors, tuple(each.name for each in paths))


def model_files(path: Path) -> tuple[Path, ...]:
    """List the files of a model: itself, or all of ``name-00001-of-000NN.gguf``; raise GGUFError if one is missing."""
    match = _SPLIT.fullmatch(path.name)
    if match is None:
        return (path,)
    count, number = int(match["count"]), int(match["number"])
    if number != 1:
        raise GGUFError(f"{path.name} is part {number} of {count}: give the first part")
    if not 1 <= count <= MAX_FILES:
        raise GGUFError(f"{path.name} claims {count} parts, 1 to {MAX_FILES} make sense")
    paths = tuple(path.with_name(f"{match['stem']}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1))
    missing = [each.name for each in paths if not each.exists()]
    if missing:
        raise GGUFError(f"{len(missing)} of {count} parts of the model are missing, the first is {missing[0]}")
    return paths


def _read_file(path: Path) -> Header:
    try:
        with path.open("rb") as stream:
            return read_header(stream)
    except GGUFError as error:
        raise GGUFError(f"{path}: {error}") from None
    except OSError as error:
        raise GGUFError(f"{path} cannot be read: {error.strerror or error}") from None


def _check_split(paths: Sequence[Path], headers: Sequence[Header]) -> None:
    for number, (path, header) in enumerate(zip(paths, headers, strict=True)):
        count = header.metadata.get("split.count", 1 if len(paths) == 1 else 0)
        if count not in (len(paths), 0) or header.metadata.get("split.no", number) != number:
            raise GGUFError(f"{path.name} says it is part {header.metadata.get('split.no')} of {count}: keep its name")


def _check_unique(tensors: Iterable[Tensor]) -> None:
    name, count = Counter(tensor.name for tensor in tensors).most_common(1)[0] if tensors else ("", 0)
    if count > 1:
        raise GGUFError(f"the tensor {name!r} is in {count} parts of the model: the parts do not belong together")


def _tensor(info: TensorInfo, file: int) -> Tensor:
    return Tensor(info.name, info.shape, info.type.name, info.size_bytes, file)


def make_profile(metadata: Mapping[str, Value], tensors: Sequence[Tensor], files: tuple[str, ...] = ()) -> ModelProfile:
    """Build a profile from a header's metadata and tensors; raise GGUFError when what planning needs is missing."""
    keys = Keys(metadata)
    n_layer = keys.number("block_count")
    if not 1 <= n_layer <= MAX_LAYERS:
        raise GGUFError(f"the model has {n_layer} blocks, 1 to {MAX_LAYERS} can be placed")
    parts = _Parts.of(tensors, n_layer)
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    embedding = shapes.get("token_embd.weight", (0,))
    n_head = keys.per_layer("attention.head_count", n_layer, 0)
    n_head_kv = keys.per_layer("attention.head_count_kv", n_layer, n_head)
    n_embd = keys.number("embedding_length")
    default_dim = n_embd // max(n_head) if max(n_head) else 0
    widths = Widths(
        keys,
        n_head_kv,
        keys.number("attention.key_length", default_dim),
        keys.number("attention.value_length", default_dim),
    )
    experts = keys.number("expert_count", 0), max(keys.per_layer("expert_used_count", n_layer, 0))
    return ModelProfile(
        name=keys.text("general.name", files[0] if files else ""),
        architecture=keys.architecture,
        file_type=_file_type(metadata.get("general.file_type")),
        quantisation=_dominant_type(tensors),
        blocks=tuple(_block(index, parts.blocks[index], widths, experts) for index in range(n_layer)),
        embedding_bytes=_size(parts.input),
        output_bytes=_size(parts.output) + (_embedding_size(parts.input) if parts.is_tied else 0),
        shared_bytes=_size(parts.shared),
        is_tied=parts.is_tied,
        n_vocab=embedding[-1] if len(embedding) > 1 else keys.vocabulary(),
        n_embd=n_embd,
        n_ff=max(keys.per_layer("feed_forward_length", n_layer, 0)),
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim_k=widths.head_dim_k,
        head_dim_v=widths.head_dim_v,
        n_ctx_train=keys.number("context_length", 0),
        n_expert=experts[0],
        n_expert_used=experts[1],
        n_window=widths.n_window,
        n_inner=widths.n_inner,
        tokenizer=keys.text("tokenizer.ggml.model", ""),
        has_chat_template="tokenizer.chat_template" in metadata,
        files=files,
        tensors=tuple(tensors),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """The tensors by where llama.cpp puts them."""

    blocks: tuple[tuple[Tensor, ...], ...]
    input: tuple[Tensor, ...]
    output: tuple[Tensor, ...]
    shared: tuple[Tensor, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], n_layer: int) -> "_Parts":
        blocks: list[list[Tensor]] = [[] for _ in range(n_layer)]
        rest: list[Tensor] = []
        for tensor in tensors:
            match = _BLOCK.match(tensor.name)
            if match is None:
                rest.append(tensor)
            elif int(match[1]) >= n_layer:
                raise GGUFError(f"tensor {tensor.name!r} is past the last block, {n_layer - 1}: the file is damaged")
            else:
                blocks[int(match[1])].append(tensor)
        for index, block in enumerate(blocks):
            if not block:
                raise GGUFError(f"block {index} of {n_layer} has no tensors: this is not a complete model")
        first = tuple(tensor for tensor in rest if tensor.name.startswith(_INPUT))
        shared = tuple(tensor for tensor in rest if tensor.name.startswith("rope_"))
        output = tuple(tensor for tensor in rest if tensor not in first and tensor not in shared)
        return cls(tuple(map(tuple, blocks)), first, output, shared)

    @property
    def is_tied(self) -> bool:
        """Tell whether the embedding serves as the output too; its copy goes to the output's device."""
        return all(tensor.name != "output.weight" for tensor in self.output)


def _block(index: int, tensors: Sequence[Tensor], widths: Widths, experts: tuple[int, int]) -> Block:
    size = _size(tensors)
    n_expert, n_used = experts
    idle = sum(tensor.size_bytes for tensor in tensors if "_exps." in tensor.name)
    active = size - idle + (idle * min(n_used, n_expert) // n_expert if n_expert else idle)
    state = widths.state(index)
    k, v = widths.cache(index)
    return Block(size, active, k, v, state, widths.is_windowed(index))


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.size_bytes for tensor in tensors)


def _embedding_size(tensors: Iterable[Tensor]) -> int:
    return _size(tensor for tensor in tensors if tensor.name == "token_embd.weight")


def _product(shape: Iterable[int]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _file_type(value: Value | None) -> str:
    try:
        return str(LlamaFileType(value).name).removeprefix("MOSTLY_")
    except ValueError:
        return "unknown"


def _dominant_type(tensors: Iterable[Tensor]) -> str:
    """Return the type that holds most bytes; ties go to the later name."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.type] += tensor.size_bytes
    if not sizes:
        return "none"
    return max(sizes, key=lambda name: (sizes[name], name))
