"""Whether our p2pd, as a relay, lets payloads pass.

A p2pd that is told to be public starts two relay services, of which the later takes the place of
the earlier: one offers the circuits it was started for (30 minutes, 4 GiB), the other libp2p's
default of 2 minutes and 128 KiB. Which one is later is decided by chance at every start: on two
quiet cores 10 of 12 starts ended small, with p2pd kept to one core 0 of 10, and 5 of 10 when six
others wanted that core. So a relay asks itself for a place after each start, through a second p2pd
that it then ends.
"""

import logging
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.multiaddrs import endpoint_of
from skerry.node.net.p2pd import P2pdOptions, P2pdTransport
from skerry.node.reach.asking import take_place
from skerry.node.reach.service import local_host
from skerry.protocol.errors import PeerUnavailable, ProtocolError

_LOG = logging.getLogger(__name__)
_TRIES = 24
"""Starts of which all offer small circuits: with one in two, less likely than one in a million."""


async def start_transport(options: P2pdOptions, key: Ed25519PrivateKey) -> P2pdTransport:
    """Start p2pd, again and again if it is to be a relay and offers small circuits.

    Raises: NetworkError.
    """
    transport = await P2pdTransport.create(options, key)
    if not options.is_relay:
        return transport
    for _ in range(_TRIES):
        if await carries_payloads(transport):
            transport.add_restart_hook(CircuitsWatch(transport).look)
            return transport
        await transport.close()
        transport = await P2pdTransport.create(options, key)
    _LOG.warning("this relay lets only small circuits pass")
    return transport


class CircuitsWatch:
    """Has p2pd started once more where a restart of it left small circuits."""

    def __init__(self, transport: P2pdTransport) -> None:
        """Do nothing before the first restart."""
        self._transport, self._tries = transport, 0

    async def look(self) -> None:
        """Look at a p2pd that has just been started. Raises: NetworkError."""
        if await carries_payloads(self._transport):
            self._tries = 0
        elif self._tries < _TRIES:
            self._tries += 1
            self._transport.daemon.replace()
        else:
            _LOG.warning("this relay lets only small circuits pass since its restart")


async def carries_payloads(transport: P2pdTransport) -> bool:
    """Ask our own p2pd for a place, as another peer would. Raises: NetworkError."""
    host = local_host(transport.daemon.options.host)
    with tempfile.TemporaryDirectory() as folder:
        options = P2pdOptions(run_dir=Path(folder), host=host, nat=False)
        guest = await P2pdTransport.create(options, Ed25519PrivateKey.generate())
        try:
            found = (endpoint_of(address) for address in transport.daemon.addresses)
            doors = tuple(str(e) for e in found if e is not None and str(e.ip) == host)
            await guest.connect(transport.peer_id, doors)
            return not (await take_place(guest, transport.peer_id, doors)).is_small
        except (PeerUnavailable, ProtocolError) as error:
            _LOG.info("our own relay gives no place: %s", error)
            return False
        finally:
            await guest.close()
