"""Run the command line with ``python -m rpc_wrapper``."""

from rpc_wrapper.entry import main

if __name__ == "__main__":
    main()
