"""Commands about the daemon itself: daemon, stop."""

from functools import partial
from typing import Annotated

import typer

from skerry.node.cli.options import MACHINE_PANEL, DaemonFlags, HomeOption
from skerry.node.cli.spreading import add_commands
from skerry.node.home import Home


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, MACHINE_PANEL, (daemon, stop))


def daemon(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background once it answers.")
    ] = False,
    install: Annotated[
        bool | None,
        typer.Option(
            "--install/--uninstall",
            help="Have it run from now on as a service of yours, or no longer.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    flags: DaemonFlags,
) -> None:
    """Run this machine's node; init and join start one by themselves.

    Settings come from flags, then SKERRY_* variables such as SKERRY_LISTEN__PORT, then
    config.toml in the home. Ctrl-C ends it in good order, twice at once; the next start goes on
    with its run. SIGHUP reads the settings again.

    --install writes a systemd user unit (macOS: a launch agent) with the flags given, and starts
    it; what it writes may be changed by installing again with others.

    \b
    Examples:
      skerry daemon
      skerry daemon --detach --port 4001
      skerry daemon --install --port 4001
      skerry daemon --home ~/second --threads 1
    """
    place = Home.resolve(home)
    from skerry.node.config import load_config

    load = partial(load_config, place.config_file, flags.settings())
    load()
    if install is not None:
        _serve(place, flags, install)
        return
    if detach:
        _detach(place, flags)
        return
    _check_home(place)
    from skerry.node.daemon import run_daemon

    raise typer.Exit(run_daemon(place, load))


def stop(home: HomeOption = None) -> None:
    """End the daemon; its run goes on when it is started again.

    Returns when the home is free. To give up the run for good, use skerry leave.

    \b
    Example:
      skerry stop
    """
    from skerry.node.cli.background import stop_daemon
    from skerry.node.control_client import ControlClient

    place = Home.resolve(home)
    with ControlClient(place.control_socket) as client:
        stop_daemon(place, client)
    typer.echo("the daemon has ended")


def _check_home(home: Home) -> None:
    """Find what is wrong with home and key before the slow imports, which take seconds."""
    from skerry.node.identity import load_or_create_identity

    with home.lock():  # refuses, naming who has it; the daemon takes it for itself
        load_or_create_identity(home.identity_file)


def _serve(home: Home, flags: DaemonFlags, wanted: bool) -> None:
    """Install the service of a home or remove it. Raises: DaemonError, StateError."""
    from skerry.node.service.definition import service_of
    from skerry.node.service.manager import find_manager

    service, manager = service_of(home, flags.arguments()), find_manager()
    for line in manager.install(home, service) if wanted else manager.uninstall(service):
        typer.echo(line)


def _detach(home: Home, flags: DaemonFlags) -> None:
    from skerry.node.cli.background import start_daemon

    with home.lock():  # refuses, naming who has it; the daemon takes it for itself
        pass
    child = start_daemon(home, flags)
    typer.echo(f"daemon runs with process id {child.pid}; its log is {home.log_file}")
