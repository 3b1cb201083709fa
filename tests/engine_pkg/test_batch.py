"""Every number of slots gets a ubatch that the engine can start with."""

from dataclasses import replace
from pathlib import Path

import pytest

from rpc_wrapper.engine.args import ServerOptions
from rpc_wrapper.engine.batch import UBATCH, evenly_batched
from rpc_wrapper.errors import ConfigError

OPTIONS = ServerOptions(Path("model.gguf"))


@pytest.mark.parametrize(("n_parallel", "n_ubatch"), [(1, None), (3, 510), (4, None), (6, 510), (7, 511), (600, 600)])
def test_the_ubatch_is_the_largest_that_leaves_no_rest(n_parallel: int, n_ubatch: int | None):
    found = evenly_batched(replace(OPTIONS, n_parallel=n_parallel))
    assert found.n_ubatch == n_ubatch
    assert (found.n_ubatch or UBATCH) % n_parallel == 0


def test_without_embeddings_nothing_is_changed():
    options = replace(OPTIONS, n_parallel=3, embeddings=False)
    assert evenly_batched(options) == options


def test_a_ubatch_of_the_users_own_is_kept_or_refused_with_one_that_works():
    kept = replace(OPTIONS, n_parallel=3, n_ubatch=256 * 3)
    assert evenly_batched(kept) == kept
    with pytest.raises(ConfigError, match=r"256 is no multiple of the 3 slots.*use 255"):
        evenly_batched(replace(OPTIONS, n_parallel=3, n_ubatch=256))
