"""models/demo.gguf is what models/README.md says."""

from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader

from scripts.demo_model.talk import CHAT_TEMPLATE
from scripts.demo_model.tokenizer import PieceType

DEMO = Path(__file__).parent.parent.parent / "models" / "demo.gguf"


@pytest.fixture(scope="module")
def demo() -> GGUFReader:
    return GGUFReader(DEMO)


def test_size() -> None:
    assert DEMO.stat().st_size <= 4_000_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.architecture", "llama"),
        ("llama.block_count", 8),
        ("llama.embedding_length", 192),
        ("llama.attention.head_count", 6),
        ("llama.attention.head_count_kv", 2),
        ("llama.feed_forward_length", 512),
        ("llama.context_length", 2048),
        ("tokenizer.ggml.model", "llama"),
        ("tokenizer.ggml.add_bos_token", True),
        ("tokenizer.chat_template", CHAT_TEMPLATE),
    ],
)
def test_header(demo: GGUFReader, key: str, value: object) -> None:
    assert demo.fields[key].contents() == value


def test_matrices_are_quantised_and_norms_are_not(demo: GGUFReader) -> None:
    kinds = {(len(tensor.shape), tensor.tensor_type) for tensor in demo.tensors}
    assert kinds == {(1, GGMLQuantizationType.F32), (2, GGMLQuantizationType.Q8_0)}


def test_every_byte_has_a_piece(demo: GGUFReader) -> None:
    types = demo.fields["tokenizer.ggml.token_type"].contents()
    assert len(types) == 1024
    assert types.count(int(PieceType.BYTE)) == 256
