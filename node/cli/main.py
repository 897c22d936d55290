"""The ``skerry`` command: collects the commands, and turns errors into one line and an exit code.

Commands live in their own modules and import what is slow only when they need it, so that
``skerry status`` answers at once; torch and hivemind are never loaded here.
"""

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from skerry.node.cli import (
    inspect_commands,
    node_commands,
    owner_commands,
    plan_commands,
    read_commands,
    run_commands,
)
from skerry.node.cli.output import print_error
from skerry.protocol.errors import SkerryError

_HELP = """Train one language model across machines joined by ordinary internet links.

\b
See it work on this machine alone:
  skerry demo
Start a run, and let others join it:
  skerry init RUN.toml          prints the line that the others type
  skerry join TOKEN             on every other machine
  skerry status --watch
"""

_EXIT_CODES = """\b
Exit codes:
  0  done                      5  a peer broke the protocol
  1  a fault inside, or a      6  state or disk
     failed check (doctor)     7  compute
  2  configuration or usage    8  the daemon is missing or busy
  3  token or manifest         9  an order cannot be given
  4  network                   130  interrupted
"""

app = typer.Typer(
    name="skerry",
    help=_HELP,
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; the one place where an error becomes text and an exit code."""
    # gRPC's C core would add its own lines to stderr, where only coded errors belong.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Our children exec at once. Its fork handlers would only run in between, and may abort them;
    # so whatever the environment says of them, they are off.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what it cannot show must not end the command
            stream.reconfigure(errors="replace")
    try:
        app()
    except SkerryError as error:
        print_error(error)
        sys.exit(error.exit_code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"skerry {version('skerry')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    # Only carries the options of the command itself; its help is _HELP.
    ...


run_commands.register(app)
owner_commands.register(app)
read_commands.register(app)
node_commands.register(app)
inspect_commands.register(app)
plan_commands.register(app)

if __name__ == "__main__":
    main()
