"""Early exit: the first K blocks as a model of their own."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from rpc_wrapper.errors import GGUFError, PlanError
from rpc_wrapper.planner.profile import read_profile
from rpc_wrapper.planner.strategies import Strategy
from rpc_wrapper.planner.strategies_file import NamedStrategy
from rpc_wrapper.planner.truncate import truncate_model
from tests.planner.models import Shape, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.gguf", Shape(n_layer=8))


def test_the_first_blocks_are_kept_as_they_are(model: Path, tmp_path: Path) -> None:
    whole, short = read_profile(model), truncate_model(model, tmp_path / "short.gguf", 3)
    assert short.blocks == whole.blocks[:3]
    assert (short.embedding_bytes, short.output_bytes) == (whole.embedding_bytes, whole.output_bytes)
    before = {tensor.name: tensor for tensor in GGUFReader(model).tensors}
    after = GGUFReader(tmp_path / "short.gguf").tensors
    assert {tensor.name for tensor in after} == {
        n for n in before if not n.startswith(tuple(f"blk.{i}." for i in range(3, 8)))
    }
    for tensor in after:
        assert tensor.tensor_type == before[tensor.name].tensor_type
        assert np.array_equal(tensor.data, before[tensor.name].data)


def test_only_the_number_of_blocks_changes_in_the_metadata(model: Path, tmp_path: Path) -> None:
    truncate_model(model, tmp_path / "short.gguf", 3)
    before, after = (
        {name: field.contents() for name, field in GGUFReader(path).fields.items() if not name.startswith("GGUF.")}
        for path in (model, tmp_path / "short.gguf")
    )
    assert after == before | {"llama.block_count": 3}


def test_the_way_of_cutting_does_not_matter(model: Path, tmp_path: Path) -> None:
    ways = [
        NamedStrategy("8p", 8, Strategy.SINGLE_DEVICE, exit_position=4),
        NamedStrategy("4p", 4, Strategy.SINGLE_DEVICE, exit_position=2),
        NamedStrategy("2p", 2, Strategy.SINGLE_DEVICE, exit_position=1),
        NamedStrategy("custom", 2, Strategy.CUSTOM, ((0, 3), (4, 7)), exit_position=1),
    ]
    files = set()
    for way in ways:
        target = tmp_path / f"{way.name}.gguf"
        truncate_model(model, target, way.layers_run(8))
        files.add(target.read_bytes())
    assert len(files) == 1


def test_all_blocks_give_the_same_model(model: Path, tmp_path: Path) -> None:
    same = truncate_model(model, tmp_path / "same.gguf", 8)
    assert same.tensors == read_profile(model).tensors


@pytest.mark.parametrize("n_layer", [0, -1, 9])
def test_an_impossible_number_is_named(model: Path, tmp_path: Path, n_layer: int) -> None:
    with pytest.raises(PlanError, match=f"--layers is {n_layer}, the model has 8 blocks"):
        truncate_model(model, tmp_path / "short.gguf", n_layer)
    assert not (tmp_path / "short.gguf").exists()


def test_nothing_is_replaced_unasked_and_never_the_model_itself(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "short.gguf"
    target.write_bytes(b"precious")
    with pytest.raises(PlanError, match="exists already"):
        truncate_model(model, target, 3)
    assert target.read_bytes() == b"precious"
    with pytest.raises(PlanError, match="exists already"):
        truncate_model(model, model, 3, overwrite=True)
    assert truncate_model(model, target, 3, overwrite=True).n_layer == 3


def test_a_folder_that_does_not_exist_is_one_sentence(model: Path, tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="cannot be written"):
        truncate_model(model, tmp_path / "none" / "short.gguf", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
