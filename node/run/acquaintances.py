"""Finding the members of a run by asking members, where there is no directory to ask.

Hivemind's DHT runs on p2pd alone. py-libp2p's own is that of IPFS, which keeps neither addresses
nor rights to take part, and would have to be believed. But each greeting already brings a peer our
signed record and us the records of all members that it knows, which are checked as those of the
directory are. So a node without one greets again: the peers of its token until they are members,
a few members every now and then, and all of them before its own record expires. Whoever meets a
node that way passes it on, so members with and without a directory find each other.
"""

import asyncio
import logging
from random import Random

from skerry.node.run.context import RunContext
from skerry.node.run.peers import RECORD_SECONDS, Peers
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.token import split_bootstrap

_LOG = logging.getLogger(__name__)
ASKING_SECONDS = 15.0
FEW = 3
"""Members asked each time: enough for news to reach all in a few rounds of asking."""
_RENEWAL_SECONDS = RECORD_SECONDS / 3

Addresses = tuple[str, ...]


async def keep_asking(context: RunContext, peers: Peers) -> None:
    """Learn the others' records and spread the own one, until cancelled."""
    clock, dice = asyncio.get_running_loop().time, Random()
    renewed_at = clock()
    while True:
        due = clock() >= renewed_at + _RENEWAL_SECONDS
        if due:
            renewed_at = clock()
        async with asyncio.TaskGroup() as group:
            for peer, addresses in whom_to_ask(context, peers, dice, everyone=due).items():
                group.create_task(_ask(peers, peer, addresses))
        await asyncio.sleep(ASKING_SECONDS)


def whom_to_ask(
    context: RunContext, peers: Peers, dice: Random, everyone: bool
) -> dict[PeerId, Addresses]:
    """Return whom to greet now: a few members or all, and those of the token that are none yet."""
    rounds = context.state.rounds
    if rounds.removal:  # nobody would tell us anything; Peers knocks now and then
        return {}
    greeted = sorted(peers.greeted & rounds.members.keys())
    chosen = greeted if everyone else dice.sample(greeted, min(FEW, len(greeted)))
    found = {peer: rounds.members[peer].message.addresses for peer in chosen}
    for full in context.bootstrap:
        peer, address = split_bootstrap(full)
        if peer not in (context.me, *peers.greeted):
            found[peer] = (*found.get(peer, ()), address)
    return found


async def _ask(peers: Peers, peer: PeerId, addresses: Addresses) -> None:
    try:
        await peers.introduce(peer, addresses)
    except (PeerUnavailable, ProtocolError) as error:
        _LOG.info("%s cannot be asked for members: %s", short(peer), error)
