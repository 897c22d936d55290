"""Finding the members of a run through the DHT, besides what greeting tells.

A peer that comes back under a new address, or whose token names only peers that are gone, is
found here. Records are signed by their peers and checked again before they are believed.
"""

import asyncio
import contextlib
import logging

from skerry.node.net.directory import Directory
from skerry.node.net.p2pd import P2pdTransport
from skerry.node.run.context import RunContext
from skerry.node.run.peers import RECORD_SECONDS, Peers
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.rounds.events import MemberLearned

_LOG = logging.getLogger(__name__)
SEARCH_SECONDS = 15.0
_PUBLISH_SECONDS = RECORD_SECONDS / 3


async def keep_directory(transport: P2pdTransport, context: RunContext, peers: Peers) -> None:
    """Publish the own record and learn the others', until cancelled."""
    while True:
        try:
            async with contextlib.AsyncExitStack() as stack:
                directory = await Directory.create(
                    transport, _bootstrap(context), context.run_id, context.check_membership
                )
                stack.push_async_callback(directory.close)
                await _take_part(directory, context, peers)
        except PeerUnavailable as error:
            _LOG.warning("the directory is not available: %s", error)
        await asyncio.sleep(SEARCH_SECONDS)


async def _take_part(directory: Directory, context: RunContext, peers: Peers) -> None:
    clock = asyncio.get_running_loop().time
    published_at, published = -_PUBLISH_SECONDS, tuple[str, ...]()
    while True:
        record = peers.own_record()
        if clock() >= published_at + _PUBLISH_SECONDS or record.message.addresses != published:
            await directory.publish(record)
            published_at, published = clock(), record.message.addresses
        for member in await directory.members():
            known = context.state.rounds.members.get(member.signer)
            if member.signer == context.me or (known and known.hash == member.hash):
                continue
            with contextlib.suppress(ProtocolError):
                context.check_admission(member)
                context.post(MemberLearned(member, hearsay=True))
        await asyncio.sleep(SEARCH_SECONDS)


def _bootstrap(context: RunContext) -> tuple[str, ...]:
    """Return full multiaddrs of those who may be there: the token's peers and all members."""
    members = context.state.rounds.members.values()
    known = [f"{a}/p2p/{m.signer}" for m in members for a in m.message.addresses]
    own = f"/p2p/{context.me}"
    return tuple(a for a in dict.fromkeys((*context.bootstrap, *known)) if not a.endswith(own))
