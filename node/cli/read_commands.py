"""Commands that read what a node does: status, peers, logs, page."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.node.cli.options import LOOK_PANEL, HomeOption, OutputFlags, WatchOption
from skerry.node.cli.spreading import add_commands
from skerry.node.home import Home
from skerry.protocol.errors import DaemonError

if TYPE_CHECKING:
    from skerry.node.cli.events import Wanted

_USUAL_LINES = 50


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, LOOK_PANEL, (status, peers, logs, page))


def _seconds(text: str) -> float:
    """Return a duration in seconds. Raises: typer.BadParameter."""
    from skerry.protocol.units import DURATION_UNITS, parse_quantity

    try:
        return parse_quantity(text, DURATION_UNITS)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _event_names(context: typer.Context) -> list[str]:
    """Return the names of events that the log of the home holds, for the shell to complete."""
    from skerry.node.cli.events import known_names

    return known_names(Home.resolve(context.params.get("home")))


@dataclass(frozen=True, slots=True)
class LineFlags:
    """Which lines of the event log are printed."""

    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            min=1,
            max=10**6,
            help="Newest lines; with --follow, before those to come.",
            show_default="50; with --since, all",
        ),
    ] = None
    since: Annotated[
        float | None,
        typer.Option(
            "--since",
            metavar="DURATION",
            parser=_seconds,
            help="Not older than this, such as 90s, 10m, 2h or 1d.",
            autocompletion=lambda: ["90s", "10m", "2h", "1d"],
        ),
    ] = None
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            metavar="NAME",
            help="Only events of this name; may be repeated.",
            autocompletion=_event_names,
        ),
    ] = None

    def wanted(self) -> "Wanted":
        """Return the choice, with the usual number of lines where none was given."""
        from skerry.node.cli.events import ALL_LINES, Wanted

        usual = _USUAL_LINES if self.since is None else ALL_LINES
        oldest = 0.0 if self.since is None else time.time() - self.since
        return Wanted(self.last or usual, frozenset(self.event or ()), oldest)


def status(*, watch: WatchOption = False, output: OutputFlags, home: HomeOption = None) -> None:
    """Show what this node does: round, loss, bytes, and whom it waits for.

    --watch shows the live screen: progress and pace, the loss curve, bytes beside the dense
    exchange, the peers and whom the round waits for, failures and how they were mended, and what
    happened last. It ends with the run or with Ctrl-C, which ends the view and not the daemon; a
    daemon that is started anew meanwhile is waited for. Where nothing can be drawn, as in a pipe,
    each change is one line.

    \b
    Examples:
      skerry status
      skerry status --watch
      skerry status --watch --json | jq .run.round
      skerry status --json
    """
    place = Home.resolve(home)
    if watch:
        from skerry.node.cli.watch import watch as watch_daemon

        watch_daemon(place, output.kind)
    elif output.as_json:
        from skerry.node.cli.output import message_to_dict, print_json
        from skerry.node.control_client import ControlClient

        with ControlClient(place.control_socket) as client:
            print_json(message_to_dict(client.status()))
    else:
        from skerry.node.cli.watch import show

        show(place)


def peers(
    *,
    admission: Annotated[
        bool, typer.Option("--admission", help="Show by what right each takes part.")
    ] = False,
    output: OutputFlags,
    home: HomeOption = None,
) -> None:
    """List the peers of the run: what they do, how fast, and under which addresses.

    \b
    Examples:
      skerry peers
      skerry peers --admission
      skerry peers --json | jq -r '.[] | select(.alive | not) | .peer_id'
    """
    from skerry.node.cli.output import message_to_dict, print_json
    from skerry.node.cli.peer_list import admission_lines, peer_lines
    from skerry.node.cli.sentences import waiting_text
    from skerry.node.control_client import ControlClient

    with ControlClient(Home.resolve(home).control_socket) as client:
        reply = client.status()
    if not reply.HasField("run"):
        raise DaemonError("SK-DMN-004", f"the daemon of {reply.home} is in no run")
    if output.as_json:
        print_json([message_to_dict(peer) for peer in reply.run.peers])
        return
    for line in admission_lines(reply.run) if admission else peer_lines(reply.run):
        typer.echo(line)
    if not admission and reply.run.round.waiting_for:
        typer.echo(waiting_text(reply.run.round))


def logs(
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is to come.")] = False,
    choice: LineFlags,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Decide a recorded run again and compare."),
    ] = None,
    output: OutputFlags,
    home: HomeOption = None,
) -> None:
    """Print the node's event log; without a daemon, what the last one left.

    As text, ids and hashes are short; --json gives each line as it was written, for other
    programs. What each event means is in docs/events.md.

    With --replay: what a node decided, upon which event, and whom it waited for. Every node
    records its events in runs/RUN_ID/events.record.jsonl in its home; a copy can be replayed
    anywhere. Exits with 1 if a decision comes out otherwise than it was recorded.

    \b
    Examples:
      skerry logs --last 20
      skerry logs --since 10m --event warning --event peer-down
      skerry logs --follow
      skerry logs --follow --json | jq 'select(.event == "committed") | .round'
      skerry logs --replay events.record.jsonl
    """
    if replay is not None:
        from skerry.node.cli.replay import print_replay

        if not print_replay(replay, output.kind):
            raise typer.Exit(1)
        return
    from skerry.node.cli.events import event_lines, event_text

    for line in event_lines(Home.resolve(home), choice.wanted(), follow):
        typer.echo(line if output.as_json else event_text(line))


def page(home: HomeOption = None) -> None:
    """Print the link that opens the status page with all its rights.

    The page itself is open to this machine; the link carries the page token, with which a
    browser may also pause this node and see how others join. Whoever has the link has these
    rights: keep it to yourself. On another machine, reach the page through an SSH tunnel.

    \b
    Example:
      skerry page
    """
    from skerry.node.control_client import ControlClient
    from skerry.node.page.pass_key import sign_in_link

    place = Home.resolve(home)
    with ControlClient(place.control_socket) as client:
        url = client.status().page_url
    if not url:
        raise DaemonError("SK-DMN-009", f"the daemon of {place.path} serves no status page")
    typer.echo(sign_in_link(url, place.page_token_file))
