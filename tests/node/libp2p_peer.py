"""A py-libp2p peer in a process of its own, which serves ECHO until it is killed.

Usage: libp2p_peer.py SEED_HEX PORT; prints one line with its port when it can be reached.
"""

import asyncio
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from transport_conformance import ECHO, echo

from skerry.node.net.pylibp2p.host import HostOptions
from skerry.node.net.pylibp2p.transport import PyLibp2pTransport


async def main(seed: str, port: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    transport = await PyLibp2pTransport.create(HostOptions(port=int(port)), key)
    await transport.handle(ECHO, echo)
    print(transport.addresses[0], flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
