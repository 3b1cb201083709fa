import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.link.cache import MIN_BYTES, fnv1a, hash_of, prune

SIZE = MIN_BYTES + 1


def entry(directory: Path, name: str, age_s: float, size: int = SIZE) -> Path:
    """Make a sparse cache file, last used ``age_s`` ago."""
    path = directory / name
    with path.open("wb") as file:
        file.truncate(size)
    moment = path.stat().st_mtime - age_s
    os.utime(path, (moment, moment))
    return path


@pytest.mark.parametrize(
    ("data", "digest"), [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)]
)
def test_the_hash_is_the_published_one(data, digest):
    assert fnv1a(data) == digest
    assert fnv1a(data[1:], fnv1a(data[:1])) == digest


@given(st.binary(max_size=600), st.integers(0, (1 << 64) - 1))
def test_the_hash_is_that_of_the_plain_loop(data, state):
    plain = state
    for byte in data:
        plain = ((plain ^ byte) * 0x100000001B3) % (1 << 64)
    assert fnv1a(data, state) == plain


def test_a_file_s_hash_is_its_name(tmp_path):
    (tmp_path / "x").write_bytes(b"foobar")
    assert hash_of(tmp_path / "x") == "85944171f73967e8"


def test_the_least_recently_used_go_first(tmp_path):
    for age, name in enumerate(["a" * 16, "b" * 16, "c" * 16]):
        entry(tmp_path, name, age * 100)
    pruned = prune(tmp_path, 2 * SIZE, verify=0)
    assert pruned.evicted == ("c" * 16,)
    assert (pruned.kept, pruned.kept_bytes) == (2, 2 * SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a" * 16, "b" * 16]


def test_reading_a_file_keeps_it(tmp_path):
    old, new = entry(tmp_path, "a" * 16, 500), entry(tmp_path, "b" * 16, 100)
    os.utime(old, (new.stat().st_mtime + 50, old.stat().st_mtime))
    assert prune(tmp_path, SIZE, verify=0).evicted == ("b" * 16,)


def test_a_truncated_file_goes_and_makes_room(tmp_path):
    entry(tmp_path, "a" * 16, 100)
    entry(tmp_path, "b" * 16, 0, size=MIN_BYTES - 5)
    pruned = prune(tmp_path, SIZE, verify=0)
    assert (pruned.damaged, pruned.evicted) == (("b" * 16,), ())


def test_the_newest_file_is_checked_against_its_name(tmp_path):
    older = entry(tmp_path, "a" * 16, 100)
    entry(tmp_path, "b" * 16, 0)
    assert prune(tmp_path, 9 * SIZE).damaged == ("b" * 16,)
    assert prune(tmp_path, 9 * SIZE).damaged == ("a" * 16,)
    assert not older.exists()


def test_a_sound_file_is_kept(tmp_path):
    sound = entry(tmp_path, "0" * 16, 0)
    name = hash_of(sound)
    sound.rename(tmp_path / name)
    assert prune(tmp_path, 9 * SIZE).kept == 1
    assert (tmp_path / name).exists()


def test_other_files_and_a_missing_folder_are_left_alone(tmp_path):
    entry(tmp_path, "model.gguf", 0)
    assert prune(tmp_path, 0).kept == 0
    assert (tmp_path / "model.gguf").exists()
    assert prune(tmp_path / "nowhere", 0).kept_bytes == 0
