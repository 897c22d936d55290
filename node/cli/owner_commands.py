"""Commands by which an owner changes a run while it goes on: whom it takes, and its settings."""

from typing import Annotated

import typer

from skerry.node.cli.options import RUN_PANEL, Format, HomeOption, OutputFlags
from skerry.node.cli.output import print_json, print_result
from skerry.node.cli.spreading import add_commands, spread
from skerry.node.home import Home
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError, OrderError
from skerry.protocol.ids import short
from skerry.protocol.units import DURATION_UNITS, parse_quantity

_RUN_FILE = "run-file"

PeerArgument = Annotated[
    str, typer.Argument(metavar="PEER", help="Its id, or the end of it: see skerry peers.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, RUN_PANEL, (remove, readmit, allow))
    changes = typer.Typer(no_args_is_help=True, help="Change a setting of the run.")
    changes.command("outer-lr")(spread(outer_lr))
    app.add_typer(changes, name="set", rich_help_panel=RUN_PANEL)
    add_commands(app, RUN_PANEL, (invite, revoke))


def remove(
    *,
    peer: PeerArgument,
    reason: Annotated[
        str, typer.Option("--reason", help="What it and all others are told.", show_default=False)
    ] = "",
    home: HomeOption = None,
    output: OutputFlags,
) -> None:
    """Keep a peer out of the run, from the next round on.

    It is told why and trains no more; what it had contributed stays. Needs the owner's key, or
    one that the run file names as standby. A token lets anyone come again under a new key: if
    the peer means harm, start a run whose token it does not have.

    \b
    Examples:
      skerry remove 9fKq2x --reason "its uplink is too slow"
      skerry remove 12D3KooW...9fKq2x
    """
    wanted = pb.RemoveRequest(peer=peer, reason=reason)
    reply = _ordered(home, pb.OrderRequest(remove=wanted))
    _tell(reply, output, f"{short(reply.peer)} is removed with the next round's commit")


def readmit(*, peer: PeerArgument, home: HomeOption = None, output: OutputFlags) -> None:
    """Let a peer in again that was removed.

    It comes back by itself if its daemon runs. Needs the owner's key, or one that the run file
    names as standby.

    \b
    Example:
      skerry readmit 9fKq2x
    """
    reply = _ordered(home, pb.OrderRequest(readmit=peer))
    _tell(reply, output, f"{short(reply.peer)} may come back after the next round's commit")


def allow(
    *,
    peer: Annotated[
        str, typer.Argument(metavar="PEER_ID", help="The whole id, as its skerry keys prints it.")
    ],
    home: HomeOption = None,
    output: OutputFlags,
) -> None:
    """Put a peer on the list of a run that takes only whom it lists (mode allow-list).

    Needs the owner's key, or one that the run file names as standby.

    \b
    Example:
      skerry allow 12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust
    """
    reply = _ordered(home, pb.OrderRequest(allow=peer))
    _tell(reply, output, f"{short(reply.peer)} may join after the next round's commit")


def outer_lr(
    *,
    value: Annotated[
        str, typer.Argument(metavar="RATE", help=f"Such as 0.7; or {_RUN_FILE}, for that one's.")
    ],
    home: HomeOption = None,
    output: OutputFlags,
) -> None:
    """Change alpha, the outer learning rate, for all peers from the same round on.

    It replaces the schedule of the run file for all further rounds. Needs the owner's key, or
    one that the run file names as standby.

    \b
    Examples:
      skerry set outer-lr 0.7
      skerry set outer-lr run-file
    """
    reply = _ordered(home, pb.OrderRequest(outer_lr=_rate(value)))
    _tell(reply, output, f"the outer learning rate is {value} after the next round's commit")


def invite(
    *,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", help="How long it lets others in, such as 12h or 7d.", show_default=False
        ),
    ] = None,
    uses: Annotated[
        int, typer.Option("--uses", min=0, max=2**20, help="How many peers; 0: any number.")
    ] = 0,
    home: HomeOption = None,
    output: OutputFlags,
) -> None:
    """Print a fresh token that others join the run with; it names this machine first.

    What it lets in is counted in the commits that all peers check; its name is for skerry revoke.

    Needs the owner's key, or one that the run file names as standby: so others can still join
    when the first owner's machine is gone. Without --expires it lasts as the run file says.

    \b
    Examples:
      skerry invite
      skerry invite --uses 1
      skerry invite --expires 12h --format json
    """
    from skerry.node.control_client import ControlClient

    lifetime_s = _seconds(expires)
    with ControlClient(Home.resolve(home).control_socket) as client:
        reply = client.invite(lifetime_s, uses)
    found = {"run_id": reply.run_id, "name": reply.name, "token": reply.token}
    if reply.invite:
        found["invite"] = reply.invite
    print_result(found | {"others_type": f"skerry join {reply.token}"}, output.kind)


def revoke(
    *,
    invite: Annotated[
        str,
        typer.Argument(
            metavar="INVITE", help="A token, an invite's name, or its beginning: see skerry peers."
        ),
    ],
    reason: Annotated[
        str, typer.Option("--reason", help="What all peers are told.", show_default=False)
    ] = "",
    with_peers: Annotated[
        bool, typer.Option("--with-peers", help="Remove the peers that came by it, too.")
    ] = False,
    home: HomeOption = None,
    output: OutputFlags,
) -> None:
    """Let nobody in by an invite any more, from the next round on.

    Peers that train now stay until they are removed; one that was away needs a fresh token.
    skerry peers --admission says who came by which invite. Needs the owner's key, or one that
    the run file names as standby.

    \b
    Examples:
      skerry revoke 3f9a --reason "the token leaked"
      skerry revoke TOKEN --with-peers
    """
    wanted = pb.RevokeRequest(invite=_invite_name(invite), reason=reason)
    reply = _ordered(home, pb.OrderRequest(revoke=wanted))
    _tell(reply, output, f"invite {reply.invite} lets nobody in after the next round's commit")
    if with_peers:
        for peer in _came_by(home, reply.invite):
            gone = _ordered(home, pb.OrderRequest(remove=pb.RemoveRequest(peer=peer)))
            _tell(gone, output, f"{short(gone.peer)} is removed with the next round's commit")


def _invite_name(given: str) -> str:
    """Return what names an invite; a token is read here. Raises: TokenError, OrderError."""
    from skerry.protocol.codec import decode_invite
    from skerry.protocol.token import PREFIX, decode_token

    if not given.startswith(PREFIX):
        return given
    envelope = decode_token(given).invite
    if envelope is None:
        raise OrderError("SK-OWN-002", "the token holds no invite")
    return decode_invite(envelope.body).nonce.hex()


def _came_by(home: HomeOption, invite: str) -> list[str]:
    """Return the ids of the peers that hold an invite and are not removed."""
    from skerry.node.control_client import ControlClient

    with ControlClient(Home.resolve(home).control_socket) as client:
        peers = client.status().run.peers
    return [p.peer_id for p in peers if p.admission.invite == invite and not p.removed]


def _ordered(home: HomeOption, request: pb.OrderRequest) -> pb.OrderReply:
    from skerry.node.control_client import ControlClient

    with ControlClient(Home.resolve(home).control_socket) as client:
        return client.order(request)


def _tell(reply: pb.OrderReply, output: OutputFlags, text: str) -> None:
    if output.kind is Format.JSON:
        found = {"sequence": reply.sequence, "peer": reply.peer or None}
        print_json(found | ({"invite": reply.invite} if reply.invite else {}))
    else:
        typer.echo(f"order {reply.sequence} is out: {text}")


def _rate(value: str) -> float:
    """Read the argument; 0 stands for the run file's. Raises: ConfigError("SK-CFG-002")."""
    if value == _RUN_FILE:
        return 0.0
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not rate > 0:
        detail = f"the outer learning rate is a number above 0, or {_RUN_FILE}: got {value!r}"
        raise ConfigError("SK-CFG-002", detail)
    return rate


def _seconds(expires: str | None) -> float:
    """Read the option; 0 stands for what the run file says. Raises: ConfigError("SK-CFG-002")."""
    if expires is None:
        return 0.0
    try:
        seconds = parse_quantity(expires, DURATION_UNITS)
    except ValueError as error:
        raise ConfigError("SK-CFG-002", f"--expires: {error}") from None
    if not seconds > 0:
        raise ConfigError("SK-CFG-002", f"--expires must be above 0, got {expires!r}")
    return seconds
