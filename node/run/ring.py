"""This node's part in its ring during the rounds: what takes the place of Train on a full replica.

A round's training is over at the origin when it has taken its inner steps, at any other member when
the last step is over here; where it is told to finish, after the step under way. A step that does
not end then is given up. What the round then amounts to is encoded like a full replica's progress.
Errors end the round's training early; what was trained before counts.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

from skerry.node.net.tasks import OwnedTasks
from skerry.node.ring.part import News, RingPart
from skerry.node.ring.settings import hosting_of
from skerry.node.ring.stage_engine import StagesStepped
from skerry.node.run.context import RunContext
from skerry.node.run.shadow_sending import ShadowSender
from skerry.protocol import compute as cp
from skerry.protocol.errors import ComputeError, SkerryError
from skerry.protocol.ids import PeerId
from skerry.protocol.rings import actions as ring_act
from skerry.protocol.rings.frames import StageAge
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev

_LOG = logging.getLogger(__name__)
Ask = Callable[[Callable[[int], cp.Request]], Awaitable[cp.Reply]]


class RingRounds:
    """Trains rounds in the ring that the plan in force gives this node."""

    def __init__(self, context: RunContext, ask: Ask) -> None:
        """Compute by ``ask``; nothing runs before ``train``."""
        self._context, self._ask = context, ask
        self._tasks = OwnedTasks()
        self._shadows = ShadowSender(context, ask)
        self._part: RingPart | None = None
        self._plan: Plan | None = None
        self._over = asyncio.Event()
        """The round's training is to end."""
        self._training: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._round = 0
        self._trained: Counter[int] = Counter()
        """Inner steps of the newest round that have trained something here."""
        self._told = True
        """Whether the event log says that one has, since the training was begun."""
        self._moved_at = 0.0
        """When the round began here, or its newest step ended."""
        self._rebuilt: dict[str, int] = {}
        """Shards that were interpolated here, and the inner steps that they have trained since."""
        self._untold = False
        """Whether the part has still to be told of some."""
        context.awaited_in_ring = self._awaited

    def train_in(self, shards: Collection[str]) -> None:
        """Let part of the microbatches pass over stages with these shards, which are new here.

        That is known to this process only: after a restart all microbatches visit them.
        """
        if shards:
            self._keep_ages()
            self._rebuilt |= dict.fromkeys(shards, 0)
            self._untold = True

    def train(self, action: act.Train) -> None:
        """Begin a round's training; ends with a Trained event."""
        self._stop()
        self._over.clear()
        self._told = False
        self._round, self._moved_at = action.round, asyncio.get_running_loop().time()
        self._training = self._tasks.start(self._train(action), "ring round")

    def finish(self) -> None:
        """End the training after what is under way."""
        if self._finishing is None:
            self._finishing = self._tasks.start(self._finish(), "end of a ring round")

    def end_round(self) -> None:
        """Refuse what is still asked for in the round: it is about to be encoded."""
        self._stop()
        if self._part is not None:
            self._part.end_round()

    def _stop(self) -> None:
        """Let nothing wait any more for a round that is over, whatever became of its last step."""
        for task in (self._training, self._finishing):
            if task is not None:
                task.cancel()
        self._training = self._finishing = None

    def lost(self, peer: PeerId) -> None:
        """End the stream to a member that is given up: what it was to do is done by others."""
        if self._part is not None:
            self._part.lost(peer)

    async def leave(self) -> None:
        """End the streams of a ring of which this node is no member any more."""
        self._keep_ages()
        part, self._part, self._plan = self._part, None, None
        if part is not None:
            await part.close()

    async def close(self) -> None:
        """End all streams and all work; never raises."""
        await self._tasks.cancel()
        await self._shadows.close()
        await self.leave()

    async def _finish(self) -> None:
        """Let the step under way end; what has not ended in good time is given up.

        A round that has trained nothing is not called over: it will be begun anew, and who comes
        meanwhile is to wait for that.
        """
        part, patience_s = self._part, self._context.manifest.ring.attempt_min
        if part is None or self._is_origin():
            self._over.set()
        if part is None:
            return
        if self._is_origin():
            await part.cut(last=self._trained[self._round] > 0)
            await asyncio.sleep(patience_s)
            await part.cut(force=True, last=self._trained[self._round] > 0)
            return
        if part.in_step:  # its end sets this, too
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._over.wait()
        self._over.set()

    async def _train(self, action: act.Train) -> None:
        self._context.facts.compute = "training"
        try:
            part = await self._follow()
            await part.begin_round(action.round, action.parent)
            if self._plan is not None:
                self._shadows.begin_round(self._plan, action.round)
            if self._is_origin():
                await self._steps(part, action)
            elif not (part.ended and self._trained[action.round]):
                await self._over.wait()  # else a lost compute process had done its share already
            part.end_round()
        except SkerryError as error:
            _LOG.warning("round %d in the ring: %s", action.round, error)
            self._context.journal.write("warning", text=f"the ring's round ended early: {error}")
        facts = self._context.facts
        if self._part is not None and self._part.block_rate:
            facts.block_rate = self._part.block_rate
        facts.compute = "ready"
        self._context.post(ev.Trained(action.parent, facts.block_rate))

    async def _follow(self) -> RingPart:
        """Return the part under the plan in force. Raises: ComputeError if there is none."""
        plan = self._context.state.rounds.hosts.plan
        if self._part is not None and self._plan is not None and plan == self._plan:
            if self._untold:
                await self._tell_rebuilt(self._part, self._plan)
            return self._part
        await self.leave()
        if plan is None or plan.ring_of(self._context.me) is None:
            raise ComputeError("SK-CMP-002", "the plan gives this peer no ring")
        context = self._context
        transport, manifest, count = context.transport, context.manifest, context.facts.carried
        part = RingPart(transport, manifest, plan, self._ask, self._observe, count)
        async with contextlib.AsyncExitStack() as unless_started:
            unless_started.push_async_callback(part.close)  # if the round is begun anew meanwhile
            await self._tell_rebuilt(part, plan)
            await part.start(self._addresses)
            unless_started.pop_all()
        self._part, self._plan = part, plan
        return part

    async def _tell_rebuilt(self, part: RingPart, plan: Plan) -> None:
        """Say which of the own stages were interpolated, wholly or in part."""
        hosting = hosting_of(plan, self._context.me)
        hosted = {stage.number: stage.shards for stage in hosting.stages} if hosting else {}
        mine = {shard for shards in hosted.values() for shard in shards}
        self._rebuilt = {shard: age for shard, age in self._rebuilt.items() if shard in mine}
        self._untold = False
        ages = {
            number: [self._rebuilt[shard] for shard in shards if shard in self._rebuilt]
            for number, shards in hosted.items()
        }
        young = tuple(StageAge(number, min(some)) for number, some in ages.items() if some)
        if young:
            await part.train_in(young)

    def _keep_ages(self) -> None:
        """Note how long the part's stages have trained: another one may follow."""
        if self._part is None or self._plan is None:
            return
        for number, age in self._part.rebuilt.items():
            for shard in self._rebuilt.keys() & set(self._plan.stages[number].shards):
                self._rebuilt[shard] = age

    async def _steps(self, part: RingPart, action: act.Train) -> None:
        """At the origin: take the inner steps, each upon a batch of its own."""
        facts, inner = self._context.facts, self._context.manifest.inner
        done_before = self._trained[action.round]
        facts.step, facts.steps = done_before, inner.steps
        clock = asyncio.get_running_loop().time
        began, tokens, losses = clock(), 0, list[float]()
        for index in range(done_before, inner.steps):  # those of a lost process are over
            if self._over.is_set():
                break
            batch = action.cursor + index * action.num_slots + action.slot
            done = await part.train(index, batch, last=index == inner.steps - 1)
            tokens += done.text_tokens
            if done.text_tokens:
                losses.append(done.loss)
            rate = tokens / max(clock() - began, 1e-9)
            facts.progressed(
                cp.Progress(
                    request=0,
                    step=index + 1,
                    steps=inner.steps,
                    loss=done.loss,
                    tokens_per_second=rate,
                )
            )
        loss = sum(losses) / len(losses) if losses else 0.0
        self._context.journal.write(
            "trained", round=action.round, steps=len(losses), loss=round(loss, 4)
        )

    def _is_origin(self) -> bool:
        return self._context.state.rounds.hosts.reads_text(self._context.me)

    def _observe(self, news: News) -> None:
        match news:
            case StagesStepped(round=number) if any(news.text_tokens.values()):
                self._trained = Counter({number: self._trained[number] + 1})
                if not self._told:
                    self._told = True
                    self._context.journal.write("first-step", round=number)
            case ring_act.StepOver(at=(number, step)) if number == self._round:
                steps = self._context.manifest.inner.steps
                self._moved_at = asyncio.get_running_loop().time()
                self._context.facts.step, self._context.facts.steps = min(step, steps), steps
                self._shadows.stepped(number, min(step, steps))
                if news.last or self._finishing is not None:
                    self._over.set()
            case ring_act.Refused(peer=peer, reason=reason, fault=True):
                self._context.refuse(peer, reason, "it has ended a stream of the ring")
            case ring_act.Refused(peer=peer, reason=reason):
                # Counted, not held against it: a late frame of an honest member is refused, too.
                self._context.count_refusal(peer, reason)
            case ring_act.Note(text):
                self._context.journal.write("note", text=f"ring: {text}")
            case _:
                pass

    def _awaited(self) -> tuple[PeerId | str, ...]:
        """Return whom the ring waits for, once a step takes so long that it is worth a word."""
        patience_s = self._context.manifest.ring.attempt_min
        late = asyncio.get_running_loop().time() > self._moved_at + patience_s
        if self._part is None or self._training is None or self._training.done() or not late:
            return ()
        return self._part.waiting_for

    def _addresses(self, peer: PeerId) -> tuple[str, ...]:
        member = self._context.state.rounds.members.get(peer)
        return member.message.addresses if member else ()
