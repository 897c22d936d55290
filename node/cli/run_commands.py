"""Commands that start, join, leave and use a run: init, join, leave, pause, resume,
export, demo."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from skerry.node.cli.options import (
    RUN_PANEL,
    DaemonFlags,
    Format,
    HomeOption,
    OutputFlags,
    WatchOption,
)
from skerry.node.cli.output import print_result
from skerry.node.cli.spreading import add_commands
from skerry.node.cli.text_file import read_text
from skerry.node.home import Home
from skerry.protocol.errors import ConfigError

MAX_RUN_FILE_BYTES = 64 * 1024


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, RUN_PANEL, (init, join, leave, pause, resume, export, demo))


def init(
    *,
    run_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN.toml", help="What to train, and how; with --resume a run's name or id."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that this home keeps.")
    ] = False,
    home: HomeOption = None,
    output: OutputFlags,
    watch: WatchOption = False,
    flags: DaemonFlags,
) -> None:
    """Start a run, and print the line with which others join it.

    A daemon is started if none runs. An empty file is a valid run: every key has a default.

    With --resume the run goes on that this node took part in last, also after skerry leave, from
    the newest round on its disk; nothing that the others did meanwhile is lost. A daemon that was
    stopped needs no such thing: the next one goes on by itself.

    \b
    Examples:
      skerry init run.toml
      skerry init run.toml --port 4001 --watch
      skerry init --resume
      skerry init --resume 3f9c2a
    \b
    A run.toml:
      name = "first"
      rounds = 20
      model.layers = 4
      data.source = "text"
      data.path = "/data/books"
    """
    if run_file is None and not resume:
        raise ConfigError("SK-CFG-002", "name a run file, or --resume")
    text = "" if resume or run_file is None else _read_run_file(run_file)
    place = Home.resolve(home)
    from skerry.node.cli.background import daemon_for

    with daemon_for(place, flags) as client:
        reply = client.resume_run(str(run_file or "")) if resume else client.init(text)
    found = {"run_id": reply.run_id, "name": reply.name}
    if reply.token:
        found |= {"token": reply.token, "others_type": f"skerry join {reply.token}"}
    print_result(found, output.kind)
    _watch_if(watch, place, output.kind)


def join(
    *,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="As printed by skerry init.")],
    home: HomeOption = None,
    output: OutputFlags,
    watch: WatchOption = False,
    flags: DaemonFlags,
) -> None:
    """Join a run; the token is checked before anything is sent or started.

    A daemon is started if none runs. It goes on training after this command has ended.

    \b
    Examples:
      skerry join TOKEN
      skerry join TOKEN --watch
      skerry join TOKEN --home ~/second --threads 1
    """
    _check_token(token)
    place = Home.resolve(home)
    from skerry.node.cli.background import daemon_for

    with daemon_for(place, flags) as client:
        reply = client.join(token)
    print_result({"run_id": reply.run_id, "name": reply.name}, output.kind)
    _watch_if(watch, place, output.kind)


def leave(home: HomeOption = None) -> None:
    """Leave the run; the daemon goes on and can join another one.

    The others are told, so that they do not wait. To come back, join with the token again. To
    stop for a while and stay in the run, use skerry pause or skerry stop.

    \b
    Example:
      skerry leave
    """
    from skerry.node.control_client import ControlClient

    with ControlClient(Home.resolve(home).control_socket) as client:
        client.leave()
    typer.echo("left the run")


def pause(home: HomeOption = None) -> None:
    """Stop training here, but stay in the run: follow its rounds and serve what others ask for.

    The others do not wait for this machine. It stays paused when the daemon is started again,
    until skerry resume.

    \b
    Example:
      skerry pause
    """
    from skerry.node.control_client import ControlClient

    with ControlClient(Home.resolve(home).control_socket) as client:
        client.pause()
    typer.echo("paused: this node follows the run and trains again with skerry resume")


def resume(home: HomeOption = None) -> None:
    """Train again after skerry pause; the next round takes this machine in.

    \b
    Example:
      skerry resume
    """
    from skerry.node.control_client import ControlClient

    with ControlClient(Home.resolve(home).control_socket) as client:
        client.resume()
    typer.echo("training goes on")


def export(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; made new.")],
    home: HomeOption = None,
    output: OutputFlags,
) -> None:
    """Write the model in the Hugging Face layout: config.json and model.safetensors.

    The parameters are those after the newest round applied here, during the run or after it.

    \b
    Examples:
      skerry export ./model
      skerry export ./model --json
    """
    from skerry.node.cli.output import message_to_dict
    from skerry.node.control_client import ControlClient

    with ControlClient(Home.resolve(home).control_socket) as client:
        reply = client.export(directory.expanduser().absolute())
    print_result(message_to_dict(reply), output.kind)


def demo(
    peers: Annotated[
        int | None,
        typer.Option("--peers", min=2, max=16, help="Nodes to start.", show_default="3"),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds", min=1, help="Outer rounds.", show_default="12, --hetero 10, --chaos 48"
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON too.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Work in DIR, and keep it.")
    ] = None,
    hetero: Annotated[
        bool, typer.Option("--hetero", help="One full replica beside a ring of three peers.")
    ] = False,
    chaos: Annotated[
        int | None,
        typer.Option("--chaos", metavar="SEED", help="The same, while everything fails once."),
    ] = None,
) -> None:
    """Show all of it on this machine: a real swarm trains a real model, and loses a peer.

    Several daemons meet over libp2p and train on the text of Python's own library; one is
    killed, a new one joins mid-run, and all end with the same parameters.

    It takes about a minute and a half on two cores, ends every process it started, also after
    Ctrl-C, and leaves the trained model in a folder beside you.

    \b
    Examples:
      skerry demo
      skerry demo --peers 4 --json out.json
      skerry demo --rounds 20 --keep ./swarm     homes and logs stay in ./swarm
      skerry demo --hetero                       peers that host only a part of the model
      skerry demo --chaos 7                      six failures, in an order that the seed draws
    """
    if hetero or chaos is not None:
        if peers is not None or (hetero and chaos is not None):
            raise ConfigError("SK-CFG-002", "one of --peers, --hetero and --chaos at a time")
        if chaos is not None:
            raise typer.Exit(_chaos(chaos, rounds, json_file, keep))
        raise typer.Exit(_hetero(rounds, json_file, keep))
    from skerry.node.demo import DemoOptions, run_demo

    options = DemoOptions(json_file=json_file, keep=keep)
    options = replace(options, peers=peers or options.peers, rounds=rounds or options.rounds)
    raise typer.Exit(run_demo(options))


def _hetero(rounds: int | None, json_file: Path | None, keep: Path | None) -> int:
    from skerry.node.demo_hetero import HeteroOptions, run_hetero

    options = HeteroOptions(json_file=json_file, keep=keep)
    return run_hetero(replace(options, rounds=rounds or options.rounds))


def _chaos(seed: int, rounds: int | None, json_file: Path | None, keep: Path | None) -> int:
    from skerry.node.demo_chaos import ChaosOptions, run_chaos

    options = ChaosOptions(seed=seed, json_file=json_file, keep=keep)
    return run_chaos(replace(options, rounds=rounds or options.rounds))


def _read_run_file(path: Path) -> str:
    """Return the file's text. Raises: ConfigError("SK-CFG-003") or ConfigError("SK-CFG-002")."""
    text = read_text(path, MAX_RUN_FILE_BYTES)
    _check_run_file(path, text)
    return text


def _check_run_file(path: Path, text: str) -> None:
    """Find mistakes before a daemon is started; the owner does not matter for that."""
    from skerry.protocol.ids import PeerId
    from skerry.protocol.manifest import parse_run_file

    try:
        parse_run_file(text, PeerId("offline-check"))
    except ConfigError as error:
        raise ConfigError(error.code, f"{path}: {error.detail}") from None


def _check_token(token: str) -> None:
    """Refuse a forged or expired token without asking anyone. Raises: TokenError."""
    import time

    from skerry.protocol.token import check_invite, decode_token

    check_invite(decode_token(token), time.time())


def _watch_if(wanted: bool, home: Home, output: Format) -> None:
    """Show the live view; Ctrl-C ends the view, not the daemon."""
    if wanted:
        from skerry.node.cli.watch import watch as watch_daemon

        watch_daemon(home, output)
