"""Models are made once, whole, and cut short on demand."""

import pytest

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.models import Models
from rpc_wrapper.experiment.spec import Model
from rpc_wrapper.planner import read_profile
from tests.experiment.rows import cell


def test_a_shape_is_made_once_and_nothing_half_made_stays(tmp_path):
    models = Models(tmp_path, tmp_path)
    path = models.path(Model(shape="demo-like", layers=3), cell())
    made_at = path.stat().st_mtime_ns
    assert path.name == "demo-like-3-blocks-q4_0.gguf"
    assert read_profile(path).n_layer == 3
    assert models.path(Model(shape="demo-like", layers=3), cell()).stat().st_mtime_ns == made_at
    assert list(tmp_path.iterdir()) == [path]


def test_an_early_exit_is_a_shorter_file(tmp_path):
    models = Models(tmp_path, tmp_path)
    assert read_profile(models.path(Model(shape="demo-like"), cell(keep_layers=2))).n_layer == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_is_found_beside_the_experiment_by_its_quantisation(tmp_path):
    (tmp_path / "m-f32.gguf").touch()
    models = Models(tmp_path / "made", tmp_path)
    assert models.path(Model(file="m-{quant}.gguf"), cell(quant="f32")) == tmp_path / "m-f32.gguf"
    with pytest.raises(ConfigError, match=r"m-q4_0\.gguf is missing"):
        models.path(Model(file="m-{quant}.gguf"), cell())
