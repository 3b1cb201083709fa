"""Run the command line with ``python -m rpc_wrapper``."""

from rpc_wrapper.cli import main

if __name__ == "__main__":
    main()
