"""Random weights in llama.cpp's formats (ggml-common.h), made by repeating one pattern of blocks: no slow quantiser."""

from math import prod

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from rpc_wrapper.synthetic.tensors import Fill, TensorSpec

Bytes = npt.NDArray[np.uint8]
SPREAD = 0.02
"""Standard deviation of the weights: with normalised inputs, activations stay far from infinity at any depth."""
PATTERN_BLOCKS = 65521
"""A prime, so that no row of a matrix equals the one before it."""

QUANTS = {
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_k": (GGMLQuantizationType.Q4_K, LlamaFileType.MOSTLY_Q4_K_S),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
}


def tensor_type(spec: TensorSpec, quant: GGMLQuantizationType) -> GGMLQuantizationType:
    """Return the type a tensor is stored in: 32 bits for norms, biases and rows that are no whole number of blocks."""
    fits = spec.dims[-1] % GGML_QUANT_SIZES[quant][0] == 0
    return quant if spec.fill is Fill.WEIGHT and fits else GGMLQuantizationType.F32


def tensor_bytes(spec: TensorSpec, kind: GGMLQuantizationType) -> int:
    """Return the size of a tensor in bytes."""
    per_block, block_bytes = GGML_QUANT_SIZES[kind]
    size: int = prod(spec.dims) // per_block * block_bytes
    return size


def tensor_data(spec: TensorSpec, kind: GGMLQuantizationType, pattern: Bytes) -> Bytes:
    """Return a tensor's bytes: the pattern repeated, or its constant."""
    constants = {Fill.ONES: 1.0, Fill.ZEROS: 0.0, Fill.DECAY: -1.0}
    if spec.fill in constants:
        return np.full(prod(spec.dims), constants[spec.fill], np.float32).view(np.uint8)
    return np.resize(pattern, tensor_bytes(spec, kind))


def pattern(kind: GGMLQuantizationType, rng: np.random.Generator) -> Bytes:
    """Return PATTERN_BLOCKS valid blocks of a type, whose numbers have mean 0 and standard deviation SPREAD."""
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        dtype = np.float32 if kind is GGMLQuantizationType.F32 else np.float16
        return rng.normal(0, SPREAD, PATTERN_BLOCKS).astype(dtype).view(np.uint8)
    blocks: Bytes = rng.integers(0, 256, (PATTERN_BLOCKS, GGML_QUANT_SIZES[kind][1]), np.uint8)
    if kind is GGMLQuantizationType.Q4_K:  # scale, minimum scale, 12 bytes of 6-bit scales and minima, 256 nibbles
        scale = SPREAD / 200  # nibbles 0..15 times scales 0..63, less minima 0..63
        blocks[:, :4] = np.array([scale, scale * 7.5], np.float16).view(np.uint8)
    else:  # scale, then 32 nibbles less 8 or 32 signed bytes
        steps = 4.6 if kind is GGMLQuantizationType.Q4_0 else 74.0
        blocks[:, :2] = np.array([SPREAD / steps], np.float16).view(np.uint8)
    return blocks.reshape(-1)
