"""A second port of an observer, which tells where a connection came from: the other half of a look.

One observer that is met at one port cannot tell a NAT that changes ports from a symmetric one,
which takes another outer port for every address *and port* that is dialled (RFC 4787, 4.1). So it
opens a second port for some seconds, which the asker dials from its own listening port, as its
p2pd dialled the first one. A firewall before that port leaves the question open.
"""

import asyncio
import contextlib
import logging

from skerry.node.net.multiaddrs import Endpoint, endpoint_of
from skerry.node.net.tasks import OwnedTasks
from skerry.node.reach.hole import socket_beside

_LOG = logging.getLogger(__name__)
OPEN_SECONDS = 10.0
"""How long a mirror waits for its one visitor."""
ASK_SECONDS = 5.0
_MAX_BYTES = 64
"""An endpoint as a multiaddr takes at most 53."""


async def open_mirror(host: str, tasks: OwnedTasks) -> int:
    """Open one for a visitor, and return its TCP port; 0 if there is none to be had.

    It closes when somebody has come, or when nobody has in time.
    """
    came = asyncio.Event()

    async def show(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        with contextlib.suppress(OSError):
            ip, port = writer.get_extra_info("peername")[:2]
            writer.write(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}\n".encode())
            writer.close()
            await writer.wait_closed()

    try:
        server = await asyncio.start_server(show, host, 0)
    except OSError as error:
        _LOG.info("no port for a second look: %s", error)
        return 0
    tasks.start(_close_after(server, came), "mirror")
    return int(server.sockets[0].getsockname()[1])


async def _close_after(server: asyncio.Server, came: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await came.wait()
    except TimeoutError:
        pass
    finally:
        server.close()


async def seen_in(mirror: Endpoint, host: str, port: int) -> Endpoint | None:
    """Return where ``mirror`` sees a connection come from that leaves our own ``port``.

    Args:
        host: the address that p2pd listens on.
    Returns: None if it does not answer.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ASK_SECONDS):
            with socket_beside(host, port, mirror) as dialling:
                await loop.sock_connect(dialling, (str(mirror.ip), mirror.port))
                said = b""
                while not said.endswith(b"\n") and len(said) < _MAX_BYTES:
                    data = await loop.sock_recv(dialling, _MAX_BYTES - len(said))
                    if not data:
                        return None
                    said += data
    except OSError as error:  # TimeoutError is one
        _LOG.debug("no second look from %s: %s", mirror, error)
        return None
    return endpoint_of(said.decode(errors="replace").strip())
