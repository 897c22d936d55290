"""Carrying out the actions of the pure core; every result comes back as an event.

``execute`` never waits: what takes time runs as a task of the session's group. Requests to the
compute process are sent in the order of the actions, since the process answers in that order.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, assert_never

from skerry.node.net.fetch import Fetcher
from skerry.node.run.compute import ComputeProcess
from skerry.node.run.context import RunContext
from skerry.node.run.disk import DiskWriter
from skerry.node.run.healing import Healer
from skerry.node.run.loading import Loading
from skerry.node.run.moments import MomentsGiver, MomentsTaker
from skerry.node.run.payloads import UNAVAILABLE, Payloads
from skerry.node.run.peers import Peers
from skerry.node.run.planning import plan_for
from skerry.node.run.ring import RingRounds
from skerry.node.run.talking import Talking
from skerry.node.run.validating import note_validation
from skerry.protocol import compute as cp
from skerry.protocol.compute import Hosting
from skerry.protocol.errors import ComputeError, SkerryError
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.actions import Action

_LOG = logging.getLogger(__name__)
_DAMAGED = "SK-DSK-002"


class Effects:
    """The edge of one run."""

    def __init__(
        self,
        context: RunContext,
        peers: Peers,
        fetcher: Fetcher,
        group: asyncio.TaskGroup,
        host: Callable[[Hosting | None], None],
    ) -> None:
        """Run tasks in ``group``; ``compute`` is set by the session while a process is up.

        ``host`` has that process started anew for other shards.
        """
        self._host = host
        self._context, self._peers, self._group = context, peers, group
        self._training = 0
        """Request number of the newest Train."""
        self.disk = DiskWriter(context, group, fetcher.downloading)
        self._payloads = Payloads(context, fetcher, self.disk)
        self._healer = Healer(context, self._payloads)
        context.give_moments = MomentsGiver(context, self._put).give
        self._talking = Talking(context, peers, self.disk, group)
        self._ring = RingRounds(context, self._put)
        self.compute: ComputeProcess | None = None
        self._loading = Loading(
            context,
            self._healer,
            MomentsTaker(context, self._payloads),
            self.disk,
            self._ask,
            lambda: self.compute,
        )

    def execute(self, action: Action) -> None:
        """Begin one action."""
        match action:
            case act.LoadState() | act.Train() | act.FinishTraining() | act.Encode():
                self._compute_round(action)
            case act.Renew():
                self._spawn(self._loading.download(action))
            case act.Host():
                self._host(action.hosting)
            case act.MakePlan():
                self._spawn(plan_for(self._context, action.candidates, action.first))
            case act.Apply() | act.Settle() | act.Evaluate() | act.Try():
                self._compute_update(action)
            case act.PublishAnnounce() | act.PublishCommit() | act.PublishFinding():
                self._talking.say(action)
            case act.Broadcast() | act.AskChain() | act.Present():
                self._talking.say(action)
            case act.Check():
                self._spawn(self._check(action))
            case act.Gather():
                self._spawn(self._payloads.gather(action))
            case act.StoreCommits() | act.StoreOrders() | act.StoreStates() | act.Retain():
                self._payloads.keep(action)
            case act.Refuse():
                self._context.refuse(action.peer, action.reason)
            case act.GiveUp():
                self._ring.lost(action.peer)
            case act.Note():
                self._note(action)
            case _:
                assert_never(action)

    def retire(self) -> None:
        """Ask the compute process nothing more; it ends when it has answered."""
        compute, self.compute = self.compute, None
        self._spawn(self._ring.leave())
        if compute is not None:
            self._spawn(compute.retire())

    async def close(self) -> None:
        """End what goes on between the actions, and write what is to be kept."""
        await self._ring.close()
        await self.disk.close()

    def _is_staged(self) -> bool:
        return self._context.state.rounds.hosting is not None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(work)

    # -- the compute process ---------------------------------------------------------------

    def _compute_round(
        self, action: act.LoadState | act.Train | act.FinishTraining | act.Encode
    ) -> None:
        match action:
            case act.LoadState(local=None) if action.digest is not None:
                self._spawn(self._loading.download(action))
            case act.LoadState():
                self._loading.begin(action.digest, action.local.shards if action.local else None)
            case act.Train():
                self._ring.train_in(self._healer.discharge())
                self._train(action)
            case act.FinishTraining() if self._is_staged():
                self._ring.finish()
            case act.FinishTraining():
                if self.compute is not None:
                    self.compute.tell(cp.Finish(request=self._training))
            case act.Encode():
                self._loading.trained()
                self._ring.end_round()
                self._ask(
                    lambda n: cp.Encode(request=n, parent=action.parent, send=action.send),
                    self._on_encoded,
                )

    def _compute_update(self, action: act.Apply | act.Settle | act.Evaluate | act.Try) -> None:
        match action:
            case act.Apply():
                self._context.facts.compute = "applying"
                self._ask(
                    lambda n: cp.Apply(
                        request=n,
                        round=action.round,
                        contributions=action.contributions,
                        outer_lr=action.outer_lr,
                    ),
                    lambda reply: self._on_applied(action, reply),
                )
            case act.Settle():
                self._ask(lambda n: cp.Settle(request=n, verdicts=action.verdicts), _ignore)
            case act.Evaluate():
                self._evaluate(action)
            case act.Try():
                self._try(action)

    def _ask(
        self,
        build: Callable[[int], cp.Request],
        then: Callable[[cp.Reply], None],
        damaged: Callable[[], None] | None = None,
    ) -> None:
        """Send a request now; pass its reply on. A failure ends the process, which is healed,
        unless what it was given was ``damaged`` on this disk."""
        if self.compute is not None:
            reply = self.compute.submit(build)
            self._spawn(self._answer(self.compute, reply, then, damaged))

    async def _put(self, build: Callable[[int], cp.Request]) -> cp.Reply:
        """Put a request of a ring to the compute process. Raises: SkerryError."""
        if self.compute is None:
            raise ComputeError("SK-CMP-001", "it is being restarted")
        return await self.compute.submit(build)

    async def _answer(
        self,
        compute: ComputeProcess,
        reply: "asyncio.Future[cp.Reply]",
        then: Callable[[cp.Reply], None],
        damaged: Callable[[], None] | None,
    ) -> None:
        try:
            then(await reply)
        except SkerryError as error:
            if damaged is not None and error.code == _DAMAGED:
                damaged()
            elif compute is self.compute:  # else its end is known already
                self._context.facts.warning = str(error)
                self._context.journal.write("compute-failed", error=str(error), fix=error.fix)
                await compute.kill()

    def _train(self, action: act.Train) -> None:
        if self._is_staged():
            self._ring.train(action)
            return
        facts = self._context.facts
        facts.compute, facts.step, facts.steps = "training", 0, self._context.manifest.inner.steps

        def build(number: int) -> cp.Request:
            self._training = number
            return cp.Train(
                request=number,
                round=action.round,
                parent=action.parent,
                cursor=action.cursor,
                slot=action.slot,
                num_slots=action.num_slots,
                steps=self._context.manifest.inner.steps,
            )

        self._ask(build, lambda reply: self._on_trained(action, reply))

    def _on_trained(self, action: act.Train, reply: cp.Reply) -> None:
        assert isinstance(reply, cp.Trained)
        self._context.facts.compute = "ready"
        self._context.journal.write(
            "trained", round=action.round, steps=reply.steps, loss=round(reply.loss, 4)
        )
        self._context.post(ev.Trained(action.parent))

    def _on_encoded(self, reply: cp.Reply) -> None:
        assert isinstance(reply, cp.Encoded)
        self._payloads.offer(reply.shards, is_state=False)
        event = ev.Encoded(
            reply.parent,
            reply.text_tokens,
            reply.round_tokens,
            reply.loss,
            reply.shards,
            reply.norms,
        )
        self._context.post(event)

    def _on_applied(self, action: act.Apply, reply: cp.Reply) -> None:
        assert isinstance(reply, cp.Applied)
        self._context.facts.compute, self._context.facts.warning = "ready", ""
        state = ev.LocalState(reply.digest, reply.shards)
        self._context.journal.write(
            "applied",
            round=action.round,
            digest=reply.digest,
            contributions=len(action.contributions),
        )
        self.disk.keep_facts()
        self._context.post(ev.Applied(action.commit, state, reply.judgements))

    def _evaluate(self, action: act.Evaluate) -> None:
        if self.compute is not None:
            reply = self.compute.submit(lambda n: cp.Evaluate(request=n))
            self._spawn(note_validation(self._context, self.disk, action.round, reply))

    def _try(self, action: act.Try) -> None:
        author = action.contribution.author

        def build(number: int) -> cp.Request:
            return cp.Try(
                request=number,
                round=action.round,
                contribution=action.contribution,
                outer_lr=action.outer_lr,
            )

        def then(reply: cp.Reply) -> None:
            assert isinstance(reply, cp.Tried)
            gain = round(reply.gain, 6)
            self._context.journal.write("tried", round=action.round, peer=author, gain=gain)
            self._context.post(ev.Tried(action.commit, author, reply.gain))

        self._ask(build, then)

    # -- payloads and states ---------------------------------------------------------------

    async def _check(self, action: act.Check) -> None:
        """Fetch an announced contribution and have it decoded."""
        announce, shards = action.announce, action.shards
        author, whole = announce.signer, shards == announce.message.shards
        rounds = self._context.state.rounds
        holders = (author, *rounds.others)
        try:
            # By then the round is committed without it; nobody may keep us busy for longer.
            async with asyncio.timeout(rounds.deadline.seconds + rounds.rules.grace):
                reason = await self._payloads.fetch(shards, holders)
        except TimeoutError:
            reason = UNAVAILABLE
        if reason or self.compute is None:
            if reason and announce.message.parent != rounds.at:  # too late to be judged there
                self._context.refuse(author, reason)
            self._context.post(ev.Checked(announce.hash, reason or UNAVAILABLE, whole))
            return

        def then(reply: cp.Reply) -> None:
            assert isinstance(reply, cp.Validated)
            self._context.post(ev.Checked(announce.hash, reply.reason, whole))

        self._ask(lambda n: cp.Validate(request=n, author=author, shards=shards), then)

    # -- the user -------------------------------------------------------------------------

    def _note(self, action: act.Note) -> None:
        self._context.journal.write("warning" if action.warning else "note", text=action.text)
        if action.warning:
            self._context.facts.warning = action.text


def _ignore(reply: cp.Reply) -> None:
    """Nothing follows from this reply."""
