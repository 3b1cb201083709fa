import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rpc_wrapper.link import cache as cache_module
from rpc_wrapper.link.cache import NOTE, WRITE_BACK_S, TensorCache
from rpc_wrapper.link.fnv import hash_of

SIZE = 1001
NOW_S = 1_700_000_000.0
BOOT = "this boot"
PLENTY = 100 * SIZE


@pytest.fixture(autouse=True)
def small_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tensors of a kilobyte count as large, since hashing real ones takes its time."""
    monkeypatch.setattr(cache_module, "MIN_BYTES", SIZE - 1)


@pytest.fixture
def cache(tmp_path: Path) -> TensorCache:
    """Return the cache of port 50052, whose last run began now and was seen to end."""
    return ended(tmp_path / "50052")


def ended(folder: Path, note: str = "", quota_bytes: int = PLENTY) -> TensorCache:
    (folder / "rpc").mkdir(parents=True)
    (folder / NOTE).write_text(note)
    os.utime(folder / NOTE, (NOW_S, NOW_S))
    return TensorCache(folder, quota_bytes)


def entry(cache: TensorCache, name: str, after_s: float, size: int = SIZE) -> Path:
    """Make a sparse file that is not what its name says, written and last used so long after the last run began."""
    path = cache.folder / "rpc" / name
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, (NOW_S + after_s, NOW_S + after_s))
    return path


def sound(cache: TensorCache, after_s: float, size: int = SIZE) -> Path:
    """Make a file that is what its name says."""
    path = entry(cache, "0" * 16, after_s, size)
    return path.rename(path.parent / hash_of(path))


def names(cache: TensorCache) -> list[str]:
    return sorted(path.name for path in (cache.folder / "rpc").iterdir())


def test_what_was_there_before_the_last_run_is_believed(cache):
    entry(cache, "a" * 16, -100)
    assert cache.begin(BOOT).damaged == ()


@pytest.mark.parametrize("note", ["", BOOT])
def test_only_the_newest_can_be_half_a_file_while_the_kernel_lives(note, tmp_path):
    cache = ended(tmp_path / "50052", note)
    entry(cache, "a" * 16, 10)
    entry(cache, "b" * 16, 20)
    assert cache.begin(BOOT).damaged == ("b" * 16,)
    assert names(cache) == ["a" * 16]


def test_after_a_power_cut_nothing_that_was_not_surely_written_is_believed(tmp_path):
    cache = ended(tmp_path / "50052", "another boot")
    entry(cache, "a" * 16, 10)
    entry(cache, "b" * 16, 20)
    entry(cache, "c" * 16, 1 - WRITE_BACK_S)
    entry(cache, "d" * 16, -1 - WRITE_BACK_S)
    kept = sound(cache, 5).name
    assert sorted(cache.begin(BOOT).damaged) == ["a" * 16, "b" * 16, "c" * 16]
    assert names(cache) == sorted([kept, "d" * 16])


def test_a_cache_nobody_took_notes_of_is_hashed(tmp_path):
    cache = ended(tmp_path / "50052")
    (cache.folder / NOTE).unlink()
    entry(cache, "a" * 16, -1000)
    kept = sound(cache, -1000).name
    assert cache.begin(BOOT).damaged == ("a" * 16,)
    assert names(cache) == [kept]


def test_more_than_is_worth_hashing_goes_unseen_but_for_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "HASHED_BYTES", SIZE)
    cache = ended(tmp_path / "50052", "another boot")
    newest = sound(cache, 20, SIZE + 1).name
    older = sound(cache, 10).name
    assert cache.begin(BOOT).damaged == (older,)
    assert names(cache) == [newest]


def test_a_file_too_small_to_be_a_tensor_is_damaged_whatever_the_note_says(cache):
    entry(cache, "a" * 16, -100)
    entry(cache, "b" * 16, -50, size=SIZE - 1)
    assert cache.begin(BOOT).damaged == ("b" * 16,)


def test_a_run_is_judged_by_its_own_note(cache):
    """The worker dies in the middle of a file: once the agent sees it, once it dies as well."""
    cache.begin(BOOT)
    half = sound(cache, 0)
    os.utime(half, (half.stat().st_atime + 1e9,) * 2)
    with half.open("r+b") as file:
        file.truncate(SIZE - 1)
    cache.end()
    assert (cache.folder / NOTE).read_text() == ""
    assert cache.begin(BOOT).damaged == (half.name,)
    assert (cache.folder / NOTE).read_text() == BOOT


@pytest.mark.parametrize(("ago_s", "damaged"), [(1, ("a" * 16,)), (WRITE_BACK_S + 10, ())])
def test_only_who_dies_while_it_writes_leaves_half_a_file(cache, ago_s, damaged):
    """The run began at NOW_S, long ago."""
    (cache.folder / NOTE).write_text(BOOT)
    os.utime(cache.folder / NOTE, (NOW_S, NOW_S))
    entry(cache, "a" * 16, time.time() - NOW_S - ago_s)
    cache.end()
    assert cache.begin(BOOT).damaged == damaged


def test_what_a_full_disk_cut_short_is_not_given_to_the_worker(cache):
    whole, stump = entry(cache, "a" * 16, 10), entry(cache, "b" * 16, 10)
    assert not cache.drop_if_cut(int(whole.name, 16), SIZE)
    assert cache.drop_if_cut(int(stump.name, 16), SIZE + 1)
    assert not cache.drop_if_cut(0xC, SIZE)  # it has no such file
    assert names(cache) == [whole.name]


def test_the_least_recently_used_go_first(tmp_path):
    cache = ended(tmp_path / "50052", quota_bytes=2 * SIZE)
    for age, name in enumerate(["a" * 16, "b" * 16, "c" * 16]):
        entry(cache, name, -100 * (age + 1))
    pruned = cache.begin(BOOT)
    assert pruned.evicted == ("c" * 16,)
    assert (pruned.kept, pruned.kept_bytes) == (2, 2 * SIZE)
    assert names(cache) == ["a" * 16, "b" * 16]


def test_reading_a_file_keeps_it(tmp_path):
    cache = ended(tmp_path / "50052", quota_bytes=SIZE)
    old = entry(cache, "a" * 16, -500)
    entry(cache, "b" * 16, -100)
    os.utime(old, (NOW_S - 50, NOW_S - 500))
    assert cache.begin(BOOT).evicted == ("b" * 16,)


@pytest.mark.parametrize("note", ["", "another boot"])
def test_what_a_stopped_neighbour_left_counts_and_goes_when_it_is_the_oldest(note, tmp_path):
    neighbour = ended(tmp_path / "20001", note)
    entry(neighbour, "a" * 16, -200)
    cache = ended(tmp_path / "50052", quota_bytes=SIZE)
    entry(cache, "b" * 16, -100)
    pruned = cache.begin(BOOT)
    assert (pruned.evicted, pruned.kept) == (("a" * 16,), 1)
    assert not neighbour.folder.exists()


def test_a_neighbour_that_runs_is_left_alone(tmp_path):
    neighbour = ended(tmp_path / "20001", BOOT)
    entry(neighbour, "a" * 16, -200)
    cache = ended(tmp_path / "50052", quota_bytes=SIZE)
    entry(cache, "b" * 16, -100)
    assert cache.begin(BOOT).evicted == ()
    assert names(neighbour) == ["a" * 16]


def test_a_run_that_cached_nothing_leaves_nothing_behind(tmp_path):
    cache = TensorCache(tmp_path / "20001", PLENTY)
    cache.begin(BOOT)
    (cache.folder / "rpc").mkdir()
    cache.end()
    assert list(tmp_path.iterdir()) == []


def test_empty_folders_of_workers_that_do_not_run_are_tidied_away(tmp_path):
    for port, note in (("20001", ""), ("20002", "another boot"), ("20003", BOOT)):
        ended(tmp_path / port, note)
    (tmp_path / "20004" / "rpc").mkdir(parents=True)
    TensorCache(tmp_path / "50052", PLENTY).begin(BOOT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20003", "50052"]


def test_backends_that_start_together_do_not_tidy_each_other_away(tmp_path):
    caches = [TensorCache(tmp_path / str(20000 + number), PLENTY) for number in range(8)]
    for _ in range(20):
        with ThreadPoolExecutor(len(caches)) as pool:
            list(pool.map(lambda cache: cache.begin(BOOT), caches))
        assert all((cache.folder / NOTE).read_text() == BOOT for cache in caches)
        for cache in caches:
            cache.end()


def test_an_end_without_a_beginning_is_no_error(tmp_path):
    TensorCache(tmp_path / "20001", PLENTY).end()
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_left_alone(tmp_path):
    cache = ended(tmp_path / "50052", quota_bytes=0)
    entry(cache, "model.gguf", -100)
    (tmp_path / "models").mkdir()
    stranger = ended(tmp_path / "models" / "20001")
    entry(stranger, "a" * 16, -100)
    assert cache.begin(BOOT).kept == 0
    cache.end()
    assert names(cache) == ["model.gguf"]
    assert names(stranger) == ["a" * 16]
