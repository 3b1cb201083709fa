"""Write a synthetic model as a GGUF that llama-server loads and answers with."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, TokenType

from rpc_wrapper.synthetic.shapes import Shape
from rpc_wrapper.synthetic.tensors import tensors
from rpc_wrapper.synthetic.weights import QUANTS, Bytes, pattern, tensor_bytes, tensor_data, tensor_type

CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def write_model(path: Path, shape: Shape, quant: str, seed: int = 1) -> None:
    """Write ``shape`` with random weights of type ``quant``; the same seed gives the same bytes."""
    kind, file_type = QUANTS[quant]
    writer = GGUFWriter(path, shape.arch)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    _add_shape(writer, shape)
    _add_tokenizer(writer, shape.vocab)
    _write_tensors(writer, shape, kind, np.random.default_rng(seed))
    writer.close()


def _write_tensors(writer: GGUFWriter, shape: Shape, quant: GGMLQuantizationType, rng: np.random.Generator) -> None:
    specs = [(spec, tensor_type(spec, quant)) for spec in tensors(shape)]
    for spec, kind in specs:
        writer.add_tensor_info(spec.name, spec.dims, np.dtype(np.float32), tensor_bytes(spec, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    patterns: dict[GGMLQuantizationType, Bytes] = {}
    for spec, kind in specs:
        if kind not in patterns:
            patterns[kind] = pattern(kind, rng)
        first = int(rng.integers(64)) * GGML_QUANT_SIZES[kind][1]  # tensors of one size differ all the same
        writer.write_tensor_data(tensor_data(spec, kind, patterns[kind][first:]))


def _add_shape(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name("synthetic")  # a name with "phi3" in it makes llama.cpp look for that model's own tokens
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.blocks)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    if shape.state:
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(2 * shape.width)
        writer.add_ssm_state_size(shape.state)
        writer.add_ssm_time_step_rank(shape.width // 16)
    else:
        _add_attention(writer, shape)


def _add_attention(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    if shape.key_length:
        writer.add_key_length(shape.key_length)
        writer.add_value_length(shape.key_length)
    if shape.sliding_window:
        writer.add_sliding_window(shape.sliding_window)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)


def _add_tokenizer(writer: GGUFWriter, size: int) -> None:
    pieces = list(vocabulary(size))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(i) for i in range(size)])
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL] + [TokenType.BYTE] * 256
    writer.add_token_types([*kinds, *[TokenType.NORMAL] * (size - len(kinds))])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def vocabulary(size: int) -> Iterator[str]:
    """Yield ``size`` pieces: the special ones, every byte, the letters, then syllables after a space sign."""
    yield from ("<unk>", "<s>", "</s>")
    yield from (f"<0x{byte:02X}>" for byte in range(256))
    yield from ("\u2581", *map(chr, range(0x21, 0x7F)))
    syllables = [a + b for a, b in product("bdfghklmnprstvwz", "aeiou")]
    words = ("\u2581" + "".join(parts) for length in range(1, 5) for parts in product(syllables, repeat=length))
    yield from (word for word, _ in zip(words, range(size - 3 - 256 - 95), strict=False))
