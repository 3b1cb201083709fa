"""The program's first steps: become process 1's child before anything heavy is imported, then run the command line."""

import os

from rpc_wrapper.supervisor.init import become_init


def main() -> None:
    """Run the command line, under an init of our own when this is process 1 of a container."""
    if os.getpid() == 1:
        become_init()
    from rpc_wrapper.cli import main as run

    run()
