"""A run of four peers in the hand: commits and announcements with one field changed at will."""

from dataclasses import replace
from typing import Any

from simulated_compute import INITIAL, SHARD, STEPS, TOKENS_PER_BATCH, state_of
from simulated_node import sign

from skerry.protocol.ids import Address, CommitHash, Digest, PeerId, RunId, content_hash
from skerry.protocol.messages import (
    Announce,
    Commit,
    Envelope,
    Heartbeat,
    Kind,
    MemberRecord,
    ShardPayload,
    ShardState,
    Signed,
    SignedAnnounce,
    SignedCommit,
    SignedMember,
)
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds import machine
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.chain import Chain, ChainRules
from skerry.protocol.rounds.events import LocalState
from skerry.protocol.rounds.leader import leader_of
from skerry.protocol.rounds.state import RoundState, Rules, new_state

RUN = RunId(content_hash(b"run"))
OWNER, BOB, CAROL, DAVE = (PeerId(name) for name in ("alice", "bob", "carol", "dave"))
TRIO = (OWNER, BOB, CAROL)
FULL = STEPS * TOKENS_PER_BATCH
GRACE = 2.0
CHAIN_RULES = ChainRules(RUN, OWNER, 4, 6, STEPS, FULL, ((SHARD, 100),))
RULES = Rules(
    chain=CHAIN_RULES,
    min_peers=3,
    rounds=6,
    deadline_min=2.0,
    deadline_max=8.0,
    deadline_factor=2.0,
    grace=GRACE,
    replay=3,
    validation_every=2,
)


_NAMED = {INITIAL.digest: INITIAL}


def local(text: str) -> LocalState:
    """Return a made-up state of the one shard."""
    state = state_of(text)
    _NAMED[state.digest] = state
    return state


def digest(text: str) -> Digest:
    return local(text).digest


def shard_states(state: Digest) -> tuple[ShardState, ...]:
    """Return the shards of a made-up state."""
    return tuple(ShardState(shard.shard, shard.address) for shard in _NAMED[state].shards)


def member(peer: PeerId) -> SignedMember:
    return sign(MemberRecord(RUN, (), None, 99, "test"), peer)


def payload(text: str) -> ShardPayload:
    return ShardPayload(SHARD, Address(content_hash(text.encode())), 10)


def genesis(roster: tuple[PeerId, ...] = TRIO, signer: PeerId = OWNER, **changes: Any):
    commit = Commit(
        run_id=RUN,
        round=0,
        view=0,
        parent=CommitHash(RUN),
        state=shard_states(INITIAL.digest),
        announces=(),
        roster=roster,
        admissions=tuple(member(peer) for peer in roster if peer != OWNER),
        cursor=0,
        weight=0,
    )
    return sign(replace(commit, **changes), signer)


def announce(parent: SignedCommit, author: PeerId, state: Digest = INITIAL.digest, **changes: Any):
    made = Announce(
        run_id=RUN,
        round=parent.message.round + 1,
        parent=CommitHash(parent.hash),
        state=shard_states(state),
        text_tokens=FULL,
        round_tokens=FULL,
        loss=1.0,
        shards=(payload(f"{author} upon {parent.hash}"),),
    )
    return sign(replace(made, **changes), author)


def child(
    parent: SignedCommit,
    authors: tuple[PeerId, ...] = TRIO,
    state: Digest = INITIAL.digest,
    signer: PeerId | None = None,
    **changes: Any,
) -> SignedCommit:
    above = parent.message
    announces = changes.pop("announces", None)
    if announces is None:
        announces = tuple(announce(parent, author, state) for author in sorted(authors))
    commit = Commit(
        run_id=RUN,
        round=above.round + 1,
        view=0,
        parent=CommitHash(parent.hash),
        state=shard_states(state),
        announces=announces,
        roster=above.roster,
        admissions=(),
        cursor=above.cursor + STEPS * len(above.roster),
        weight=above.weight + sum(a.message.text_tokens for a in announces),
    )
    commit = replace(commit, **changes)
    leader = leader_of(RUN, above.round + 1, commit.view, above.roster)
    return sign(commit, signer or leader)


def chain_of(*commits: SignedCommit) -> Chain:
    chain = Chain(CHAIN_RULES, lambda record: None, {})
    for commit in commits:
        chain.add(commit)
    return chain


def name(commit: SignedCommit) -> CommitHash:
    return CommitHash(commit.hash)


def heartbeat(peer: PeerId, head: SignedCommit | None) -> ev.HeartbeatReceived:
    beat = Heartbeat(
        run_id=RUN,
        head=name(head) if head else CommitHash(RUN),
        head_round=head.message.round if head else 0,
        weight=head.message.weight if head else 0,
        phase="training",
        step=0,
        steps=0,
        tokens_per_second=0.0,
        loss=0.0,
    )
    return ev.HeartbeatReceived(Signed(beat, Envelope(Kind.HEARTBEAT, b"", peer, b"")))


class Peer:
    """One state machine and the actions of its last event."""

    def __init__(self, me: PeerId = BOB, rules: Rules = RULES) -> None:
        self.s: RoundState = new_state(me, rules, lambda record: None, 0.0)
        self.me, self.now = me, 0.0

    def take(self, event: ev.Event, now: float | None = None) -> list[Action]:
        """Apply an event, at the last time unless told otherwise."""
        self.now = self.now if now is None else now
        return machine.apply(self.s, event, self.now)

    def meet(self, *peers: PeerId) -> list[Action]:
        """Make peers known members that are alive."""
        actions: list[Action] = []
        for peer in peers:
            actions += self.take(ev.MemberLearned(member(peer)))
            actions += self.take(ev.PeerUp(peer))
        return actions

    def boot(self) -> list[Action]:
        """Bring up the compute process with the initial parameters."""
        self.take(ev.MemberLearned(member(self.me)))
        self.take(ev.ComputeReady(()))
        return self.take(ev.StateLoaded(INITIAL))

    def commits(self, *commits: SignedCommit, source: PeerId = CAROL) -> list[Action]:
        return self.take(ev.CommitsReceived(commits, source))

    def train(self, now: float) -> list[Action]:
        """End the inner steps and encode a contribution upon the present commit."""
        at = self.s.at
        self.take(ev.Trained(at), now)
        return self.take(self.encoded(at))

    def encoded(self, parent: CommitHash, **changes: Any) -> ev.Encoded:
        shards = (payload(f"{self.me} upon {parent}"),)
        return replace(ev.Encoded(parent, FULL, FULL, 1.0, shards), **changes)

    def apply(self, commit: SignedCommit, state: LocalState) -> list[Action]:
        """Gather and apply a commit."""
        self.take(ev.Gathered(name(commit), True))
        return self.take(ev.Applied(name(commit), state, ()))

    def announced(self, signed: SignedAnnounce, sound: bool = True) -> list[Action]:
        """Take in an announcement and the verdict on it."""
        first = self.take(ev.AnnounceReceived(signed))
        return first + self.take(ev.Checked(signed.hash, "" if sound else "corrupt"))

    def in_round(self) -> SignedCommit:
        """Bring it to the training of round 1 and return the commit it builds on."""
        start = genesis()
        self.boot()
        self.meet(*(peer for peer in TRIO if peer != self.me))
        self.commits(start)
        return start


def of(kind: type, actions: list[Action]) -> list[Any]:
    """Return the actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


STATES = [INITIAL, *(local(f"state {i}") for i in range(1, 8))]
"""Made-up states after rounds 0, 1, 2 …"""
