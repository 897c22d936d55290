"""Real p2pd transports on loopback, for the tests of what runs over them."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.p2pd import P2pdOptions, P2pdTransport


def options_in(folder: Path, port: int = 0) -> P2pdOptions:
    folder.mkdir(exist_ok=True)
    return P2pdOptions(run_dir=folder, port=port)


async def start(folder: Path, key: Ed25519PrivateKey | None = None, port: int = 0):
    options = options_in(folder, port)
    return await P2pdTransport.create(options, key or Ed25519PrivateKey.generate())


@asynccontextmanager
async def swarm(folder: Path, count: int):
    """Start ``count`` transports; the first is connected to all others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(start(folder / f"peer{i}")) for i in range(count)]
    peers = tuple(task.result() for task in tasks)
    try:
        for other in peers[1:]:
            await peers[0].connect(other.peer_id, other.addresses)
        yield peers
    finally:
        for peer in peers:
            await peer.close()


@pytest.fixture
async def pair(tmp_path):
    async with swarm(tmp_path, 2) as peers:
        yield peers
