"""Evidence that the kernel killed for want of memory."""

from pathlib import Path

import pytest

from rpc_wrapper.engine.oom import OomKills, read_oom_kills

GIB = 1 << 30


def read(folder: Path, membership: str, files: dict[str, str]) -> OomKills:
    (folder / "membership").write_text(membership)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_oom_kills(folder / "fs", folder / "membership", folder / "vmstat")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"fs/memory.events": "low 0\noom 3\noom_kill 2\n", "fs/memory.max": f"{GIB}"}, OomKills(2, GIB)),
        ("0::/a\n", {"fs/a/memory.events": "oom_kill 1\n", "vmstat": "oom_kill 9\n"}, OomKills(1)),
        (
            "4:memory:/x\n",
            {
                "fs/memory/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
                "fs/memory/x/memory.limit_in_bytes": str(GIB),
            },
            OomKills(4, GIB),
        ),
        ("0::/\n", {"vmstat": "nr_free_pages 7\noom_kill 5\n"}, OomKills(5)),
        ("0::/\n", {}, OomKills(0)),
    ],
)
def test_the_closest_counter_is_read(tmp_path, membership, files, expected):
    assert read(tmp_path, membership, files) == expected


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (OomKills(1, GIB), None),
        (OomKills(2, GIB), "it ran out of memory at the limit of 1024 MiB on this container or service"),
        (OomKills(2), "the machine ran out of memory"),
    ],
)
def test_only_a_kill_since_then_is_evidence(now, said):
    assert now.since(OomKills(1)) == said


def test_this_machine_can_be_read():
    assert read_oom_kills().count >= 0
