"""What the page knows: the daemon as it is, the run's chronicle, and the answers made of both.

Lives in the node's event loop, so it reads the state between two events and needs no lock.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

from skerry.node.home import Home
from skerry.node.page.chronicle import Chronicle
from skerry.node.page.header import Moment, run_header
from skerry.node.page.models import (
    DoneAnswer,
    HealthAnswer,
    Link,
    LogAnswer,
    Node,
    OrderAnswer,
    Peer,
    PeersAnswer,
    PlanAnswer,
    Reach,
    RoundsAnswer,
    RunAnswer,
    RunHeader,
    TimelineAnswer,
)
from skerry.node.page.pace import Average
from skerry.node.page.rates import Rates
from skerry.node.page.rosters import Rosters
from skerry.node.page.round import Round
from skerry.node.page.swarm import Observed, peers_of, replica_plans, shard_plans
from skerry.node.run.context import RunContext
from skerry.node.run.journal import Journal
from skerry.node.run.orders import Sender
from skerry.node.run.session import Session
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId, short
from skerry.protocol.rounds.state import Phase

_LINKS_SECONDS = 5.0
_LINKS_PATIENCE_S = 2.0
_STUCK_VIEWS = 5
"""Times the grace that a round may be over its deadline before the node counts as stuck."""
_MAX_BACKLOG = 10_000
"""Events waiting to be decided, above which the node cannot keep up."""
_NEVER_STUCK = frozenset({Phase.WAITING, Phase.OBSERVING, Phase.PAUSED, Phase.REMOVED, Phase.DONE})


class Part(Protocol):
    """The daemon's part in a run; participation.Participation, and one of its members in tests."""

    @property
    def session(self) -> Session | None:
        """The run that the daemon takes part in."""

    @property
    def join_token(self) -> str:
        """What others join the run with; empty if there is none."""

    async def pause(self, paused: bool) -> None:
        """Stop training but follow the run, or train again. Raises: SkerryError."""

    async def order(self, request: pb.OrderRequest, sender: Sender) -> pb.OrderReply:
        """Give an order by this node's key, if it is an owner's. Raises: SkerryError."""


class Daemon(Protocol):
    """What the page needs of the daemon; daemon.Node, and a stand-in in tests."""

    @property
    def part(self) -> Part:
        """The daemon's part in a run."""

    @property
    def journal(self) -> Journal:
        """The event log."""

    @property
    def network_restarts(self) -> int:
        """How often the network process was restarted."""

    def describe(self) -> pb.StatusReply:
        """Return the status without its run."""

    async def relayed(self) -> Mapping[PeerId, bool]:
        """Say of each connected peer whether only a relay leads to it. Raises: PeerUnavailable."""


class Desk:
    """Answers; ``keep`` must run beside it."""

    def __init__(self, daemon: Daemon, home: Home) -> None:
        """Answer for ``daemon``, whose runs lie in ``home``."""
        self.daemon = daemon
        self._home = home
        self.chronicle: Chronicle | None = None
        """Of the run that the daemon takes part in; None while there is none."""
        self.url = ""
        self.failure = ""
        """What is wrong with the page itself; empty while nothing is."""
        self._rates, self._rosters, self._undisturbed = Rates(), Rosters(), Average()
        self._links: dict[PeerId, Link] = {}
        self._linked_at = float("-inf")

    async def keep(self) -> None:
        """Follow the daemon's runs, one after the other, until cancelled."""
        while True:
            await self._until_in_run()
            await self._follow_run()

    @property
    def context(self) -> RunContext | None:
        """The run, once its chronicle is open."""
        session = self.daemon.part.session
        return session.context if session is not None and self.chronicle is not None else None

    def run_answer(self, may_join: bool) -> RunAnswer:
        """Return the header; ``may_join`` says whether the reader is known as the user."""
        now, header = self.now(), self.header()
        token = self.daemon.part.join_token
        if header is not None and may_join and token:
            header = header.model_copy(update={"join_command": f"skerry join {token}"})
        if header is not None and not may_join:
            header = header.model_copy(update={"may_order": False})
        return RunAnswer(
            as_of=now.unix, served_from=self._me(), node=self._node(self.context), run=header
        )

    def header(self) -> RunHeader | None:
        """Return the run in one look, without the join command; None without a run."""
        context, chronicle = self.context, self.chronicle
        if context is None or chronicle is None:
            return None
        warning = self.failure or chronicle.history.failure
        rows, past = chronicle.waterfall, chronicle.past
        return run_header(context, rows, past, self.now(), warning, self._undisturbed)

    async def peers_answer(self) -> PeersAnswer:
        """Return the table of peers; none without a run."""
        await self._refresh_links()
        now, context = self.now(), self.context
        rows: tuple[Peer, ...] = ()
        if context is not None:
            rates = self._rates.sample(now.monotonic, context.facts.traffic)
            veterans = self._rosters.read(context.state.rounds)
            rows = peers_of(context, now, Observed(rates, self._links, veterans))
        return PeersAnswer(as_of=now.unix, served_from=self._me(), peers=rows)

    def plan_answer(self) -> PlanAnswer:
        """Return who hosts what; nothing without a run."""
        now, context = self.now(), self.context
        return PlanAnswer(
            as_of=now.unix,
            served_from=self._me(),
            round=context.state.rounds.round if context else 0,
            num_blocks=context.manifest.model.layers if context else 0,
            shards=shard_plans(context) if context else (),
            replicas=replica_plans(context) if context else (),
        )

    async def rounds_answer(self, before: int | None, limit: int) -> RoundsAnswer:
        """Return rows of the waterfall."""
        rows: tuple[Round, ...] = ()
        more = False
        if self.chronicle is not None:
            rows, more = await self.chronicle.rounds(before, limit)
        return RoundsAnswer(as_of=time.time(), served_from=self._me(), rounds=rows, more=more)

    async def timeline_answer(self, limit: int) -> TimelineAnswer:
        """Return failures and recoveries."""
        entries = await self.chronicle.timeline(limit) if self.chronicle else ()
        return TimelineAnswer(as_of=time.time(), served_from=self._me(), entries=entries)

    async def log_answer(self, before: int | None, limit: int) -> LogAnswer:
        """Return lines of the event log."""
        lines = await self.chronicle.log(before, limit) if self.chronicle else ()
        return LogAnswer(as_of=time.time(), served_from=self._me(), lines=lines)

    def health_answer(self) -> HealthAnswer:
        """Say whether the node does its work, and if not, why."""
        session = self.daemon.part.session
        reason = _illness(session.context, self.now()) if session is not None else ""
        return HealthAnswer(
            as_of=time.time(),
            served_from=self._me(),
            healthy=not reason,
            reason=reason or "ok",
        )

    async def pause(self, paused: bool, address: str) -> DoneAnswer:
        """Pause this node or let it train again, on behalf of a reader. Raises: SkerryError."""
        wish = "pause" if paused else "resume"
        self.daemon.journal.write("page-asked", action=wish, address=address)
        await self.daemon.part.pause(paused)
        return DoneAnswer(as_of=time.time(), served_from=self._me(), paused=paused)

    async def order(self, request: pb.OrderRequest, address: str) -> OrderAnswer:
        """Give an order of the run's owner, on behalf of a reader. Raises: SkerryError."""
        wish = request.WhichOneof("change") or "nothing"
        self.daemon.journal.write("page-asked", action=wish, address=address)
        reply = await self.daemon.part.order(request, Sender("page", address))
        return OrderAnswer(
            as_of=time.time(),
            served_from=self._me(),
            sequence=reply.sequence,
            peer=reply.peer or None,
        )

    def link_to(self, peer: PeerId) -> Link:
        """Return how a peer was reached when that was last looked up."""
        return self._links.get(peer, "unknown")

    def now(self) -> Moment:
        """Return this moment, by both clocks."""
        return Moment(time.monotonic(), time.time())

    def _me(self) -> str:
        return self.daemon.describe().peer_id

    def _node(self, context: RunContext | None) -> Node:
        status = self.daemon.describe()
        return Node(
            peer=status.peer_id,
            name=short(status.peer_id),
            version=status.version,
            pid=status.pid,
            uptime_s=status.uptime_seconds,
            addresses=tuple(status.addresses),
            page_url=self.url,
            compute=context.facts.compute if context else "none",
            restarts=self.daemon.network_restarts,
            reach=_reach(status),
        )

    async def _until_in_run(self) -> None:
        if self.daemon.part.session is None:
            async for text in self.daemon.journal.follow():
                if '"entered"' in text and self.daemon.part.session is not None:
                    return

    async def _follow_run(self) -> None:
        session = self.daemon.part.session
        if session is None:
            return
        context = session.context
        folder = self._home.run(context.run_id).folder
        chronicle = self.chronicle = await Chronicle.open(context, folder)
        try:
            if chronicle.note:
                self.daemon.journal.write("warning", text=chronicle.note)
            await chronicle.follow(self.daemon.journal)
        finally:
            self.chronicle = None
            chronicle.pulse.beat()
            self._rates, self._rosters, self._undisturbed = Rates(), Rosters(), Average()
            self._links = {}
            await chronicle.close()

    async def _refresh_links(self) -> None:
        if time.monotonic() < self._linked_at + _LINKS_SECONDS:
            return
        self._linked_at = time.monotonic()
        try:
            async with asyncio.timeout(_LINKS_PATIENCE_S):
                relayed = await self.daemon.relayed()
        except (TimeoutError, PeerUnavailable):
            self._links = {}
            return
        self._links = {peer: "relayed" if far else "direct" for peer, far in relayed.items()}


def _reach(status: pb.StatusReply) -> Reach | None:
    if not status.HasField("reach"):
        return None
    reach = status.reach
    return Reach.model_validate(
        {
            "verdict": reach.verdict,
            "nat": reach.nat,
            "relays": tuple(reach.relays),
            "observers": reach.observers,
            "summary": reach.summary,
            "advice": reach.advice,
        }
    )


def _illness(context: RunContext, now: Moment) -> str:
    """Return what keeps the node from its work; empty if nothing does."""
    rounds, facts = context.state.rounds, context.facts
    if facts.compute == "dead":
        return "the compute process has ended and is being restarted"
    if context.events.qsize() > _MAX_BACKLOG:
        return f"{context.events.qsize()} events wait to be decided"
    if rounds.told_phase in _NEVER_STUCK or rounds.phase in _NEVER_STUCK:
        return ""
    allowed = rounds.rules.deadline_max + _STUCK_VIEWS * rounds.rules.grace
    lasted = now.monotonic - rounds.phase_since
    if lasted > allowed:
        return f"{rounds.phase} for {lasted:.0f} s, {allowed:.0f} s at most are normal"
    return ""
