"""One run on this node, from start to leave: the event queue, the compute process, the peers.

The one data path: event → ``apply`` → actions → effects, in ``_decide``. Everything else here
makes events or keeps something alive.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from skerry.node.net.blob_download import Watchers
from skerry.node.net.fetch import Fetcher, Order
from skerry.node.run.compute import ComputeProcess
from skerry.node.run.context import RunContext
from skerry.node.run.effects import Effects
from skerry.node.run.notable import Notables
from skerry.node.run.orders import new_order
from skerry.node.run.peers import Peers
from skerry.node.run.probing import Prober
from skerry.node.run.record import Recorder
from skerry.node.run.state import Closed, Network, NodeEvent, apply, next_deadline
from skerry.protocol import compute as cp
from skerry.protocol.compute import Hosting
from skerry.protocol.errors import ComputeError, SkerryError
from skerry.protocol.ids import CommitHash
from skerry.protocol.launch import Launch
from skerry.protocol.layout import layout_of
from skerry.protocol.messages import Change, SignedMember, SignedOrder
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.hosting import NOTHING

_LOG = logging.getLogger(__name__)
_MIN_TICK_SECONDS = 0.02
"""A deadline that cannot be acted on must not become a busy loop."""
_RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)

Discovery = Callable[[RunContext, Peers], Coroutine[Any, Any, None]]


class Session:
    """A node's part in one run."""

    def __init__(
        self,
        context: RunContext,
        launch: Launch,
        compute_log: Path,
        recorder: Recorder | None = None,
        discovery: Discovery | None = None,
        order: Order = tuple,
    ) -> None:
        """Prepare; nothing runs before ``start``.

        Args:
            discovery: finds members until cancelled.
            order: says which of several holders of a blob is asked first.
        """
        self.context = context
        self._discovery = discovery
        self.peers = Peers(context)
        self._launch, self._compute_log, self._recorder = launch, compute_log, recorder
        self._fetcher = Fetcher(
            context.client,
            context.blobs,
            context.run_id,
            context.refuse,
            order=order,
            watchers=Watchers(context.facts.received_from, context.facts.links.received),
        )
        self._ledger: tuple[CommitHash, ...] = ()
        """Open contributions, as the newest compute process knows them."""
        self._hosting = context.state.rounds.hosting
        """What is to be hosted; the machine decides it."""
        self._rehosted = asyncio.Event()
        self._known: tuple[SignedMember, ...] = ()
        self._process: ComputeProcess | None = None
        """The newest compute process, running or not."""
        self._effects: Effects | None = None

    async def start(self) -> None:
        """Start the compute process, so that a bad corpus or too little memory is told at once.

        Where nothing is hosted yet there is none. Raises: SkerryError.
        """
        restored, self._known = await asyncio.to_thread(self._restore)
        self.context.post(restored)
        if self.context.store.paused:
            self.context.post(ev.Paused())
        await self._start_compute()

    async def close(self) -> None:
        """End compute process and recording; ``run`` does so, one that never ran needs it."""
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close)
        if self._process is not None:
            await self._process.stop()

    async def run(self, members: tuple[SignedMember, ...]) -> None:
        """Take part until cancelled; ``members`` are known from the outset."""
        self.context.client.on_closed = lambda peer: self.context.post(Closed(peer))
        known = {member.signer: member for member in (*self._known, *members)}
        for member in (self.peers.own_record(), *known.values()):
            self.context.post(ev.MemberLearned(member))
        try:
            async with asyncio.TaskGroup() as group:
                self._effects = Effects(self.context, self.peers, self._fetcher, group, self._host)
                group.create_task(self._supervise())
                group.create_task(self.context.keep_out())
                group.create_task(self.peers.keep_greeting())
                group.create_task(self.peers.keep_beating())
                group.create_task(Prober(self.context, self.peers).keep_probing())
                if self._discovery is not None:
                    group.create_task(self._discovery(self.context, self.peers))
                await self._decide(self._effects)
        finally:
            await self._end()

    async def ask(self, build: Callable[[int], cp.Request]) -> cp.Reply:
        """Put a request of the user to the compute process. Raises: ComputeError."""
        if self._effects is None or self._effects.compute is None:
            raise ComputeError("SK-CMP-001", "the compute process is being restarted")
        return await self._effects.compute.submit(build)

    async def pause(self, paused: bool) -> None:
        """Stop training but follow the run, or train again; returns when it is decided.

        Raises: StateError if it cannot be remembered.
        """
        await asyncio.to_thread(self.context.store.keep_paused, paused)
        self.context.post(ev.Paused() if paused else ev.Resumed())
        self.context.journal.write("paused" if paused else "resumed")
        await self.context.events.join()

    async def order(self, change: Change) -> SignedOrder:
        """Give an order by this node's key; returns when the others are being told.

        Raises: OrderError if it cannot have an effect, StateError if it cannot be kept.
        """
        context = self.context
        order = new_order(context, change)
        await asyncio.to_thread(context.store.orders.append, (order,), durably=True)
        context.post(ev.OrderReceived(order, context.me))
        await context.events.join()
        return order

    def reconfigure(self, heartbeat_s: float, announced: tuple[str, ...]) -> None:
        """Take over settings of the node that changed while the run goes on."""
        self.context.heartbeat_s = heartbeat_s
        if announced != self.context.announced:
            self.context.announced = announced
            self.readdress()

    def readdress(self) -> None:
        """Give everyone a new record: this node is reached otherwise than before."""
        self.peers.forget_greetings()

    def network(self, up: bool) -> None:
        """Take in that this node's transport is down, or is back with no connection left."""
        self.context.post(Network(up))
        self.peers.forget_greetings()

    async def _decide(self, effects: Effects) -> None:
        """Take events one by one, decide, act: the loop of the node."""
        clock = asyncio.get_running_loop().time
        context = self.context
        notables = Notables(context.state, context.facts)
        while True:
            event, counted = await self._next_event(clock)
            now = clock()
            actions = self._apply(event, now)
            for name, details in notables.after(event, actions):
                context.journal.write(name, **details)
            for action in actions:
                effects.execute(action)
            if counted:
                context.events.task_done()

    def _apply(self, event: NodeEvent, now: float) -> list[Action]:
        if self._recorder is None:
            return apply(self.context.state, event, now)
        self._recorder.record(event, now)
        actions = apply(self.context.state, event, now)
        self._recorder.decided(actions)
        if self._recorder.ended:
            text = f"events are no longer recorded: {self._recorder.ended}"
            self.context.journal.write("warning", text=text)
            self._recorder = None
        return actions

    async def _next_event(self, clock: Callable[[], float]) -> tuple[NodeEvent, bool]:
        """Return the next event, a Tick if a deadline comes first; True if it was queued."""
        deadline = next_deadline(self.context.state, clock())
        wait = None if deadline is None else max(_MIN_TICK_SECONDS, deadline - clock())
        try:
            async with asyncio.timeout(wait):
                return await self.context.events.get(), True
        except TimeoutError:
            return ev.Tick(), False

    def _restore(self) -> tuple[ev.Restored, tuple[SignedMember, ...]]:
        """Read what was kept of the run; a long chain takes a while, so not on the event loop."""
        store = self.context.store
        stored = ev.Restored(
            store.chain.load(),
            store.load_own(),
            self._whole_states(),
            store.orders.load(),
            self.context.blobs.begun(),
        )
        return stored, store.load_members()

    def _whole_states(self) -> tuple[ev.LocalState, ...]:
        """Return the stored states of which every shard is really there."""
        blobs, states = self.context.blobs, self.context.store.load_states()
        return tuple(
            state
            for state in states
            if all(blobs.size(shard.address) == shard.size for shard in state.shards)
        )

    async def _start_compute(self) -> None:
        """Start a process for what is to be hosted; for nothing there is none."""
        facts, layout = self.context.facts, layout_of(self.context.manifest.model)
        facts.shard_params = {spec.name: spec.numel for spec in layout}
        facts.params = sum(facts.shard_params.values())
        self._process, self._ledger = None, ()
        if self._hosting == NOTHING:
            facts.compute = "none"
            return
        facts.compute = "starting"
        launch = replace(self._launch, hosting=self._hosting)
        self._process, hello = await ComputeProcess.start(
            launch, self._compute_log, facts.progressed
        )
        self._ledger = tuple(entry.parent for entry in hello.ledger)
        facts.unigram_entropy = hello.unigram_entropy or facts.unigram_entropy

    def _host(self, hosting: Hosting | None) -> None:
        """Have the compute process do what it owes, and then one started for other shards."""
        assert self._effects is not None
        self._hosting = hosting
        self._rehosted.set()
        self._effects.retire()

    async def _supervise(self) -> None:
        """Keep a compute process running: its end is an event, and so is its return."""
        assert self._effects is not None
        attempt = 0
        while True:
            began = asyncio.get_running_loop().time()
            self._effects.compute = self._process
            self.context.post(ev.ComputeReady(self._ledger, self._hosting))
            await self._serve()
            if self._rehosted.is_set():
                attempt = 0
            else:
                self._effects.compute = None
                self.context.facts.compute = "dead"
                self.context.post(ev.ComputeLost())
                lasted = asyncio.get_running_loop().time() - began
                attempt = 0 if lasted > 60 else attempt + 1
            await self._restart_compute(attempt)

    async def _serve(self) -> None:
        """Return when the process has ended, or when something is to be hosted after nothing."""
        if self._process is not None:
            await self._process.serve()
        else:
            await self._rehosted.wait()

    async def _restart_compute(self, attempt: int) -> None:
        while True:
            if not self._rehosted.is_set():
                seconds = _RESTART_SECONDS[min(attempt, len(_RESTART_SECONDS) - 1)]
                await asyncio.sleep(seconds)
            self._rehosted.clear()
            try:
                return await self._start_compute()
            except SkerryError as error:
                attempt += 1
                self.context.facts.warning = str(error)
                self.context.journal.write("compute-failed", error=str(error), fix=error.fix)

    async def _end(self) -> None:
        self.context.client.on_closed = lambda peer: None
        members = self.context.state.rounds.members.values()
        self.context.store.save_members(m for m in members if m.signer != self.context.me)
        if self._effects is not None:
            await self._effects.close()
        await self.close()
