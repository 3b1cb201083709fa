"""What a service does to its own process before it serves."""

import resource
import subprocess
import sys

import pytest

SOFT, HARD = 256, 4096
REPORT = """
import resource
from rpc_wrapper.cli.serving import allow_connections
allow_connections()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "expected"), [(SOFT, f"{HARD} {HARD}"), (HARD, f"{HARD} {HARD}")])
def test_as_many_files_may_be_open_as_the_system_allows(soft, expected):
    run = subprocess.run(
        [sys.executable, "-c", REPORT],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, HARD)),
    )
    assert run.stdout.strip() == expected
