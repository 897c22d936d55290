"""The port that a node listens on: once chosen it is kept, so that tokens stay good."""

import socket
from pathlib import Path

from skerry.node.config import ListenSection
from skerry.protocol.blobs import write_atomic


def port_to_use(listen: ListenSection, kept: Path) -> int:
    """Return the configured port, else the one in ``kept`` if it is free, else 0 for any."""
    if listen.port:
        return listen.port
    try:
        port = int(kept.read_text())
    except (OSError, ValueError):
        return 0
    with socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, port))
        except (OSError, OverflowError):
            return 0
    return port


def keep_port(addresses: tuple[str, ...], kept: Path) -> None:
    """Write down the TCP port of the first multiaddr that has one."""
    for address in addresses:
        parts = address.split("/")
        if "tcp" in parts:
            write_atomic(kept, parts[parts.index("tcp") + 1].encode())
            return
