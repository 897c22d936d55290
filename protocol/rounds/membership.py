"""Whom this peer knows of: the newest record of each, and of no more peers than anyone needs.

One invite lets anyone make any number of identities, and a long run sees many machines once. So
when there is no room, who comes itself takes the place of whoever's record is oldest among those of
whom nothing is needed: they are neither here, nor in the roster or plan. What others tell of a peer
pushes out nobody.
"""

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import SignedMember
from skerry.protocol.rounds.state import RoundState

MAX_MEMBERS = 512


def learn(s: RoundState, member: SignedMember, hearsay: bool = False) -> None:
    """Keep a peer's newest record: others may pass on an old one, with addresses long gone."""
    known = s.members.get(member.signer)
    if known is None:
        if not has_room(s, hearsay):
            return
        if len(s.members) >= MAX_MEMBERS:
            _drop(s, _oldest(s))
    elif known.message.expires_at >= member.message.expires_at:
        return
    s.members[member.signer] = member


def has_room(s: RoundState, hearsay: bool = False) -> bool:
    """Say whether another peer can be kept."""
    if len(s.members) < MAX_MEMBERS:
        return True
    return not hearsay and not s.members.keys() <= _needed(s)


def _oldest(s: RoundState) -> PeerId:
    dispensable = s.members.keys() - _needed(s)
    return min(dispensable, key=lambda peer: (s.members[peer].message.expires_at, peer))


def _needed(s: RoundState) -> set[PeerId]:
    goal = s.chain.get(s.goal) if s.goal is not None else None
    rosters = {*s.roster, *(goal.message.roster if goal else ())}
    return {s.me, *s.alive, *s.suspects, *rosters, *s.hosts.ringed, *s.orders}


def _drop(s: RoundState, peer: PeerId) -> None:
    del s.members[peer]
    for some in (s.lost, s.resting, s.idle, s.unheard):
        some.discard(peer)
    s.positions.pop(peer, None)
    s.asked.pop(peer, None)
    s.slowness.told.pop(peer, None)
