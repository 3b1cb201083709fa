"""CPU quota, memory limit, threads, CPU features, ports."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.engine import machine
from rpc_wrapper.engine.machine import CgroupLimits, choose_threads, parse_cpuinfo, read_cgroup

GIB = 1 << 30


def cgroup(tmp_path: Path, membership: str, files: dict[str, str]) -> CgroupLimits:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_cgroup(tmp_path / "fs", tmp_path / "membership")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n", "memory.max": f"{GIB}\n"}, CgroupLimits(1.5, GIB)),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, CgroupLimits(None, None)),
        ("0::/\n", {}, CgroupLimits(None, None)),
        ("", {}, CgroupLimits(None, None)),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, CgroupLimits(1.0, None)),
        (
            "4:memory:/x\n1:cpu:/x\n0::/\n",
            {
                "cpu/x/cpu.cfs_quota_us": "200000",
                "cpu/x/cpu.cfs_period_us": "100000",
                "memory/x/memory.limit_in_bytes": str(2 * GIB),
            },
            CgroupLimits(2.0, 2 * GIB),
        ),
        (
            "4:memory:/x\n1:cpu:/x\n",
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            CgroupLimits(None, None),
        ),
    ],
)
def test_the_tightest_limit_of_v1_and_v2_counts(tmp_path, membership, files, expected):
    assert cgroup(tmp_path, membership, files) == expected


@pytest.mark.parametrize(
    ("quota", "available", "cores", "logical", "expected"),
    [
        (None, 2, 2, 2, 2),
        (None, 16, 8, 16, 8),
        (None, 4, 8, 16, 2),
        (None, 4, None, 4, 4),
        (1.5, 16, 8, 16, 1),
        (0.5, 16, 8, 16, 1),
        (32.0, 4, 4, 4, 4),
    ],
)
def test_threads_follow_quota_and_cores(quota, available, cores, logical, expected):
    assert choose_threads(quota, available, cores, logical) == expected


@given(
    quota=st.none() | st.floats(0.01, 512),
    available=st.integers(1, 512),
    cores=st.none() | st.integers(1, 256),
    logical=st.integers(1, 512),
)
def test_there_is_always_a_thread_and_never_more_than_allowed(quota, available, cores, logical):
    threads = choose_threads(quota, available, cores, logical)
    assert 1 <= threads <= available
    assert quota is None or threads <= max(1, quota)


def test_cpu_features_of_both_families_are_read():
    intel = parse_cpuinfo("processor : 0\nmodel name : A CPU\nflags : sse4_2 avx2 amx_tile\n\nprocessor : 1\n")
    assert (intel.name, intel.has_amx) == ("A CPU", True)
    assert intel.vector_features == ("sse4_2", "avx2", "amx_tile")
    arm = parse_cpuinfo("CPU part\t: 0xd0c\nFeatures\t: fp asimd asimddp\n")
    assert (arm.has_amx, arm.vector_features) == (False, ("asimd", "asimddp"))
    assert parse_cpuinfo("").features == frozenset()


def test_this_machine_has_threads_and_memory():
    assert 1 <= machine.default_threads() <= machine.cpu_count()
    assert 0 < machine.available_bytes() <= machine.memory_limit_bytes()
    assert isinstance(machine.is_container(), bool)


def test_a_port_knows_its_user():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        user = machine.port_user(port)
        assert user is not None
        assert user.pid == os.getpid()
    assert machine.port_user(port) is None
