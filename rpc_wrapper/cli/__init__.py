"""The command line: one module per command; errors become one sentence and an exit code here, nowhere else."""

import sys

import typer

from rpc_wrapper.cli import certs
from rpc_wrapper.cli.ask import ask
from rpc_wrapper.cli.bench import bench
from rpc_wrapper.cli.chat import chat
from rpc_wrapper.cli.config import config
from rpc_wrapper.cli.demo import demo
from rpc_wrapper.cli.doctor import doctor
from rpc_wrapper.cli.experiment import experiment
from rpc_wrapper.cli.health import health
from rpc_wrapper.cli.inspect import inspect
from rpc_wrapper.cli.plan import plan
from rpc_wrapper.cli.probe import probe
from rpc_wrapper.cli.pull import pull
from rpc_wrapper.cli.run import run
from rpc_wrapper.cli.truncate import truncate
from rpc_wrapper.errors import RPCWrapperError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

app.command()(run)
app.command()(demo)
app.command()(ask)
app.command()(chat)
app.command()(probe)
app.command()(config)
app.command()(doctor)
app.command()(inspect)
app.command()(truncate)
app.command()(pull)
app.command()(health)
app.command()(bench)
app.command()(experiment)
app.add_typer(plan, name="plan")
app.add_typer(certs.app, name="certs")


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr, never a traceback."""
    try:
        app()
    except RPCWrapperError as error:
        print(f"rpc-wrapper: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
