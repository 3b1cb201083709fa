"""Write small GGUF files of any shape, with the ``gguf`` library, for the planner's tests."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants


@dataclass(frozen=True)
class Shape:
    """A llama-like model: two widths for the mixture of experts, 0 for a dense one."""

    n_layer: int = 4
    n_embd: int = 64
    n_head: int = 4
    n_head_kv: int = 2
    n_ff: int = 128
    n_vocab: int = 300
    n_expert: int = 0
    n_expert_used: int = 0
    is_tied: bool = False
    type: GGMLQuantizationType = GGMLQuantizationType.Q8_0
    n_ctx_train: int = 2048
    architecture: str = "llama"


def write_model(path: Path, shape: Shape) -> Path:
    """Write a model of random weights that llama.cpp loads."""
    writer = GGUFWriter(path, shape.architecture)
    _write_metadata(writer, shape)
    _write_vocabulary(writer, shape.n_vocab)
    random = np.random.default_rng(1)
    for name, dims in tensor_shapes(shape).items():
        values = (random.random(dims, dtype=np.float32) - 0.5) / 8
        if len(dims) == 1 or shape.type is GGMLQuantizationType.F32:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quants.quantize(values, shape.type), raw_dtype=shape.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_metadata(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name("test")
    writer.add_block_count(shape.n_layer)
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_file_type(7)
    if shape.n_expert:
        writer.add_expert_count(shape.n_expert)
        writer.add_expert_used_count(shape.n_expert_used)


def _write_vocabulary(writer: GGUFWriter, n_vocab: int) -> None:
    """Write a SentencePiece vocabulary: three specials, 256 bytes, then words."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [f"w{number}" for number in range(n_vocab - len(pieces))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * n_vocab)
    writer.add_token_types([2, 3, 3, *([6] * 256), *([1] * (n_vocab - 259))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """List every tensor with its shape as numpy counts it: slowest dimension first."""
    n_embd, kv = shape.n_embd, shape.n_embd // shape.n_head * shape.n_head_kv
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (shape.n_vocab, n_embd),
        "output_norm.weight": (n_embd,),
    }
    if not shape.is_tied:
        tensors["output.weight"] = (shape.n_vocab, n_embd)
    for index in range(shape.n_layer):
        block = {
            "attn_norm": (n_embd,),
            "attn_q": (n_embd, n_embd),
            "attn_k": (kv, n_embd),
            "attn_v": (kv, n_embd),
            "attn_output": (n_embd, n_embd),
            "ffn_norm": (n_embd,),
        }
        if shape.n_expert:
            wide = (shape.n_expert, shape.n_ff, n_embd)
            block |= {"ffn_gate_inp": (shape.n_expert, n_embd), "ffn_gate_exps": wide, "ffn_up_exps": wide}
            block |= {"ffn_down_exps": (shape.n_expert, n_embd, shape.n_ff)}
        else:
            block |= {
                "ffn_gate": (shape.n_ff, n_embd),
                "ffn_up": (shape.n_ff, n_embd),
                "ffn_down": (n_embd, shape.n_ff),
            }
        tensors |= {f"blk.{index}.{name}.weight": dims for name, dims in block.items()}
    return tensors
