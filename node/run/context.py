"""What the parts of a run share: who we are, the rules, and the way events get into the queue."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from skerry.node.net.call_deadlines import CallDeadlines
from skerry.node.net.rpc import RpcClient
from skerry.node.net.shaping import Throttle
from skerry.node.run.calls import Call, calls_at
from skerry.node.run.facts import Facts, Seen
from skerry.node.run.journal import Journal
from skerry.node.run.state import NodeEvent, NodeState
from skerry.node.run.store import RunStore
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import Address, CommitHash, PeerId, RunId, short
from skerry.protocol.leases import Leases
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import Envelope, Heartbeat, Offer, ShardPayload, SignedMember
from skerry.protocol.moments import Moments
from skerry.protocol.quota import QUOTA, REMOVED, Quotas, Verdict
from skerry.protocol.rounds.settings import NOT_LISTED
from skerry.protocol.rounds.waiting import waiting_for
from skerry.protocol.signing import Signer
from skerry.protocol.token import check_member
from skerry.protocol.transport import Transport
from skerry.recovery.unplaced import why_no_place

_GIVEN_ROUNDS = 2
MAX_REASONS = 64
"""Reasons counted apart: some are words that a peer has chosen."""
OTHER_REASON = "other"


@dataclass(frozen=True, slots=True)
class Given:
    """Moments that were stored for others."""

    at: CommitHash
    """Upon which commit."""
    round: int
    moments: Moments

    def addresses(self, now: int) -> frozenset[Address]:
        """Return what is kept of them in round ``now``: others may be about to ask for it."""
        kept = self.moments if now <= self.round + _GIVEN_ROUNDS else ()
        return frozenset(one.payload.address for one in kept)


NOTHING_GIVEN = Given(CommitHash(""), 0, ())


async def no_moments() -> Moments:
    """Return none: there is no optimizer."""
    return ()


@dataclass(slots=True)
class RunContext:
    """Everything that outlives a single action of one run."""

    signer: Signer
    manifest: Manifest
    manifest_envelope: Envelope
    invite: Envelope | None
    transport: Transport
    client: RpcClient
    store: RunStore
    blobs: BlobStore
    journal: Journal
    state: NodeState
    heartbeat_s: float
    announced: tuple[str, ...]
    """Further addresses of this node, from its settings."""
    bootstrap: tuple[str, ...]
    """Full multiaddrs of the peers that the token names."""
    offer: Offer = field(default_factory=Offer)
    """What this node can host."""
    facts: Facts = field(default_factory=Facts)
    events: "asyncio.Queue[NodeEvent]" = field(default_factory=asyncio.Queue)
    served: dict[Address, tuple[ShardPayload, bool]] = field(default_factory=dict)
    """Blobs that others may ask for; True for parameter shards."""
    leases: Leases = field(default_factory=Leases)
    """What others are downloading."""
    upload: Throttle = field(default_factory=Throttle)
    """What all that leaves this node goes through."""
    quotas: Quotas = field(default_factory=Quotas)
    deadlines: CallDeadlines[Call] = field(init=False)
    """How long the others' answers are waited for."""
    probes_given: dict[PeerId, float] = field(default_factory=dict)
    """When a member was last given a probe, in monotonic seconds."""
    give_moments: Callable[[], Awaitable[Moments]] = no_moments
    """Returns where the moments of this node's optimizer lie, for who asks for them."""
    given: Given = NOTHING_GIVEN
    """What it returned last."""
    awaited_in_ring: Callable[[], tuple[PeerId | str, ...]] = tuple
    """Whom or what the ring that this node trains in waits for, if it has waited for long."""
    unwelcome: "asyncio.Queue[PeerId]" = field(default_factory=asyncio.Queue)
    """Peers whose connections are to be ended."""

    def __post_init__(self) -> None:
        """Wait for answers in proportion to the heartbeats."""
        self.deadlines = CallDeadlines(calls_at(self.heartbeat_s))

    @property
    def me(self) -> PeerId:
        """This node's id."""
        return self.signer.peer_id

    @property
    def waiting_for(self) -> tuple[PeerId | str, ...]:
        """Whom or what this node waits for, in its rounds or within the ring that trains one."""
        rounds = self.state.rounds
        why = why_no_place(rounds)
        return ((why,) if why else waiting_for(rounds)) or self.awaited_in_ring()

    @property
    def run_id(self) -> RunId:
        """The run's id."""
        return self.state.rounds.rules.chain.run_id

    def post(self, event: NodeEvent) -> None:
        """Put an event into the one queue."""
        self.events.put_nowait(event)

    def check_membership(self, member: SignedMember) -> None:
        """Check what of a member's right never ends, for records that others keep.

        One record that is refused spoils a whole answer of the directory, so what was right once
        must stay so: expiry, removal and revocation are for ``check_admission``. Raises:
        ProtocolError.
        """
        self._check_record(member, 0)
        settings = self.state.rounds.settings
        if settings.allowed is not None and member.signer not in settings.allowed:
            raise _refusal(NOT_LISTED, member.signer)

    def check_admission(self, member: SignedMember) -> None:
        """Check a member's right to take part, now. Raises: ProtocolError."""
        self._check_record(member, int(time.time()))
        self.check_not_removed(member.signer)
        rounds = self.state.rounds
        reason = rounds.settings.refusal(member)
        # Who trains already was taken in before its invite was used up or revoked.
        if reason and member.signer not in rounds.roster:
            raise _refusal(reason, member.signer)

    def check_not_removed(self, peer: PeerId) -> None:
        """Raises: ProtocolError("removed") for a peer that the owner keeps out."""
        removal = self.state.rounds.settings.removed.get(peer)
        if removal is not None:
            why = removal.reason or "no reason given"
            detail = f"{short(removal.by)} has removed this peer from the run: {why}"
            raise ProtocolError(REMOVED, detail, "SK-PRO-005")

    def _check_record(self, member: SignedMember, now: int) -> None:
        manifest = self.manifest
        check_member(member, self.run_id, manifest.owner_keys, manifest.admission.mode, now)

    def saw(self, peer: PeerId, heartbeat: Heartbeat) -> None:
        """Note a peer's newest heartbeat for the status."""
        self.facts.seen[peer] = Seen(heartbeat, time.monotonic())
        if heartbeat.links:
            self.facts.links.told[peer] = heartbeat.links

    def refuse(self, peer: PeerId, reason: str, detail: str = "") -> None:
        """Count and log what was not accepted from a peer, and hold it against it."""
        self.count_refusal(peer, reason)
        if reason not in (QUOTA, REMOVED):  # said again and again: counted, not written down
            self.journal.write("refused", peer=peer, reason=reason, detail=detail)
        match self.quotas.charge(peer, reason, time.monotonic()):
            case Verdict.SHUT_OUT:
                text = f"{short(peer)} sent too much that was refused; it is not heard for a while"
                self.journal.write("warning", text=text)
            case Verdict.DISCONNECT:
                text = f"{short(peer)} goes on although it is not heard; its connections are ended"
                self.journal.write("warning", text=text)
                self.unwelcome.put_nowait(peer)
            case Verdict.HEARD:
                pass

    def count_refusal(self, peer: PeerId, reason: str) -> None:
        """Count what was not accepted from a peer."""
        known = reason in self.facts.refused or len(self.facts.refused) < MAX_REASONS
        self.facts.refused[reason if known else OTHER_REASON] += 1
        if peer in self.state.rounds.members:
            self.facts.traffic[peer].refused += 1

    async def keep_out(self) -> None:
        """End the connections of peers that go on although they are shut out, until cancelled."""
        while True:
            peer = await self.unwelcome.get()
            await self.transport.disconnect(peer)

    def shuts_out(self, peer: PeerId) -> bool:
        """Say whether a peer has sent so much rubbish that it is not listened to for now."""
        return self.quotas.shut_out(peer, time.monotonic())


_REFUSALS = {
    NOT_LISTED: "is not on the run's list; its owner can add it with skerry allow",
    "invite-revoked": "holds an invite that was revoked, or whose standby was removed",
    "invite-used-up": "holds an invite by which as many peers have come as it is for",
}


def _refusal(reason: str, peer: PeerId) -> ProtocolError:
    return ProtocolError(reason, f"{short(peer)} {_REFUSALS.get(reason, reason)}", "SK-PRO-003")
