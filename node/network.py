"""The network of this node: which transport it uses, and how its runs find members over it.

Only the library of the chosen transport is imported. Either may be missing, each takes a second
or more, and one process cannot hold both: their protobuf files define the same names.
"""

import importlib.util
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.config import ListenSection, TransportName
from skerry.node.home import Home
from skerry.node.net.node_transport import NodeTransport
from skerry.node.run.acquaintances import keep_asking
from skerry.node.run.session import Discovery
from skerry.protocol.errors import NetworkError

if TYPE_CHECKING:
    from skerry.node.net.p2pd import P2pdTransport


@dataclass(frozen=True, slots=True)
class Network:
    """What belongs together: hivemind's directory runs on p2pd alone."""

    transport: NodeTransport
    discovery: Discovery
    p2pd: "P2pdTransport | None" = None
    """The same transport, for what only p2pd can do; None if it is another."""


async def start_network(
    home: Home, listen: ListenSection, port: int, key: Ed25519PrivateKey
) -> Network:
    """Start the transport that ``listen`` asks for; the caller closes it.

    Raises: NetworkError: SK-NET-002 if ``port`` is in use, SK-NET-004 if p2pd fails, SK-NET-005 if
        py-libp2p is needed and not installed, SK-NET-006 if the address cannot be used.
    """
    if transport_of(listen.transport) == "p2pd":
        return await _with_p2pd(home, listen, port, key)
    return await _with_pylibp2p(listen, port, key)


def transport_of(wanted: TransportName) -> Literal["p2pd", "py-libp2p"]:
    """Return which transport is used: p2pd where it is there, unless another is wanted."""
    if wanted != "auto":
        return wanted
    return "p2pd" if has_p2pd() else "py-libp2p"


def has_p2pd() -> bool:
    """Say whether hivemind is installed with its p2pd, without importing it."""
    spec = importlib.util.find_spec("hivemind")
    if spec is None or spec.origin is None:
        return False
    return os.access(Path(spec.origin).parent / "hivemind_cli" / "p2pd", os.X_OK)


def has_pylibp2p() -> bool:
    """Say whether py-libp2p is installed, without importing it."""
    return importlib.util.find_spec("libp2p") is not None


async def _with_p2pd(
    home: Home, listen: ListenSection, port: int, key: Ed25519PrivateKey
) -> Network:
    from skerry.node.net.p2pd import P2pdOptions
    from skerry.node.reach.circuits import start_transport
    from skerry.node.run.discovery import keep_directory

    folder = home.path / "p2pd"
    folder.mkdir(mode=0o700, exist_ok=True)
    options = P2pdOptions(folder, listen.host, port)
    if listen.relay:
        options = replace(options, reachability="public")
    transport = await start_transport(options, key)
    return Network(transport, partial(keep_directory, transport), transport)


async def _with_pylibp2p(listen: ListenSection, port: int, key: Ed25519PrivateKey) -> Network:
    if not has_pylibp2p():
        raise NetworkError("SK-NET-005", "the transport py-libp2p is not there")
    from skerry.node.net.pylibp2p.host import HostOptions
    from skerry.node.net.pylibp2p.transport import PyLibp2pTransport

    transport = await PyLibp2pTransport.create(HostOptions(listen.host, port), key)
    return Network(transport, keep_asking)
