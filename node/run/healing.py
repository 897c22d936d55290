"""Bringing back what a ring has lost, on the peer to which the plan gives it.

What has live hosts is copied like any other state; here is said so. What nobody has any more is
made of what is left, by the first rung that applies (recovery/healing.py), in a process of its own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from skerry.node.run.asking import answer_of
from skerry.node.run.context import RunContext
from skerry.node.run.payloads import Payloads
from skerry.node.run.shadow_finding import ShadowFinder
from skerry.protocol.errors import ComputeError, PeerUnavailable
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.messages import ShardPayload, ShardState
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.renewing import own_shards
from skerry.recovery.healing import (
    MADE_UP,
    TRAINED_IN,
    Rung,
    ShardHealing,
    StageHealing,
    is_block,
    plan_healing,
)
from skerry.recovery.healing_words import healed, named, sentences
from skerry.recovery.rebuild_request import Made, Request, Stage, StaleCopy
from skerry.recovery.shadow_survey import HeldShadow, of_use
from skerry.recovery.surveying import Remains, remains

_SECONDS = 300.0
"""The process imports torch, perhaps on a busy machine."""


@dataclass(frozen=True, slots=True)
class _Patient:
    """A shard on its way back."""

    rung: Rung
    since: float


class Healer:
    """Plans how lost shards come back to this peer, has them made, and tells of it."""

    def __init__(self, context: RunContext, payloads: Payloads) -> None:
        """Heal nothing yet."""
        self._context, self._payloads = context, payloads
        self._finder = ShadowFinder(context, payloads)
        self._patients: dict[str, _Patient] = {}
        """By shard."""
        self._spent: defaultdict[str, float] = defaultdict(float)
        """Seconds upon transfer and rebuild, since something was last given to this peer."""

    async def copy(self, action: act.LoadState) -> tuple[ShardPayload, ...]:
        """Return where a state lies when it has come, shard by shard, from those who have it.

        Raises: SkerryError if some of it cannot be had.
        """
        self._admit_copies(action.wanted)
        with self._timed("transfer"):
            shards, sources = await self._payloads.fetch_state(action.wanted, action.holders)
        self._context.journal.write(
            "state-downloaded",
            digest=action.digest,
            bytes=sum(shard.size for shard in shards),
            sources=dict(sources),
        )
        return shards

    async def renew(self, action: act.Renew) -> tuple[ShardPayload, ...]:
        """Return where all hosted shards of a state lie, made anew where nobody has them.

        Raises: SkerryError if something that they are made of cannot be had.
        """
        while True:
            held = await self._finder.find(action.commit, action.lost)
            shards = await self._renewed(action, held)
            if shards is not None:
                return shards

    async def _renewed(
        self, action: act.Renew, held: tuple[HeldShadow, ...]
    ) -> tuple[ShardPayload, ...] | None:
        """Return where all hosted shards lie; None if a stale copy turned out to be useless."""
        left = self._remains(action.commit, action.lost, held)
        self._check_origin(left, action.lost)
        healings = self._admit(left, action.lost)
        rungs = {one.shard: one.rung for healing in healings for one in healing.shards}
        copies = {x: left.held[x][0] for x in action.lost if rungs[x] is Rung.SHADOW}
        own = [x for x in action.lost if rungs[x] is Rung.CHECKPOINT]
        stale = [ShardState(shard, left.stale[shard]) for shard in own]
        with self._timed("transfer"):
            for copy in copies.values():
                if not await self._finder.fetch(copy):
                    return None
            wanted = (*action.wanted, *stale)
            known, _ = await self._payloads.fetch_state(wanted, action.holders)
        shards = {shard.shard: shard for shard in known}
        if copies or any(rungs[shard] in MADE_UP for shard in action.lost):
            with self._timed("transfer"):
                there = await self._sources(left, healings, action.holders)
            with self._timed("rebuild"):
                made = await self._made(healings, there, self._of_use(action.commit, copies))
            for shard in made.unusable:
                self._finder.condemn(copies[shard])
            if made.unusable:
                return None
            shards |= {shard.shard: shard for shard in made.shards}
        return tuple(shards[name] for name in self._context.state.rounds.hosted)

    def discharge(self) -> tuple[str, ...]:
        """Say that what was lost trains again; return the shards that have to train back in."""
        now, patients = asyncio.get_running_loop().time(), self._patients
        spent = {what: round(seconds, 3) for what, seconds in self._spent.items()}
        self._patients = {}
        self._spent.clear()
        for rung in dict.fromkeys(one.rung for one in patients.values()):
            shards = [shard for shard, one in patients.items() if one.rung is rung]
            seconds = now - min(patients[shard].since for shard in shards)
            text = healed(shards, self._context.me, seconds, rung)
            self._context.journal.write(
                "healed",
                text=text,
                shards=shards,
                rung=str(rung),
                seconds=round(seconds, 3),
                transfer=spent.get("transfer", 0.0),
                rebuild=spent.get("rebuild", 0.0),
            )
        return tuple(shard for shard, one in patients.items() if one.rung in TRAINED_IN)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Count how long something takes, whatever becomes of it."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            yield
        finally:
            self._spent[what] += clock() - began

    def _admit_copies(self, wanted: tuple[ShardState, ...]) -> None:
        """Take note of what was never hosted here: it may be of a peer that is gone."""
        rounds = self._context.state.rounds
        if rounds.goal is None or rounds.chain.settings(rounds.goal).hosts.plan is None:
            return
        own = own_shards(rounds)
        given = tuple(entry.shard for entry in wanted if entry.shard not in own)
        self._admit(self._remains(rounds.goal, given), given)

    def _remains(
        self, goal: CommitHash, given: tuple[str, ...], held: tuple[HeldShadow, ...] = ()
    ) -> Remains:
        """Return what is left, and what the run says of stages that are passed over."""
        manifest = self._context.manifest
        left = remains(self._context.state.rounds, goal, given, held)
        survey = replace(
            left.survey,
            may_skip=manifest.ring.bypass > 0,
            bypass_steps=manifest.recovery.bypass_steps,
        )
        return replace(left, survey=survey)

    def _admit(self, left: Remains, given: tuple[str, ...]) -> tuple[StageHealing, ...]:
        """Plan for the stages of shards that were given to this peer; say so once."""
        now, me = asyncio.get_running_loop().time(), self._context.me
        plans = plan_healing(left.survey)
        found = tuple(one for one in plans if any(x.shard in given for x in one.shards))
        for healing in found:
            told = tuple(x for x in healing.shards if x.shard in given)
            copied = all(x.rung is Rung.COPY for x in told)
            if all(self._is_known(x) for x in told) or (
                copied and healing.lost.peer == me  # nobody is gone: the plan moved it here
            ):
                continue
            for x in told:
                known = self._patients.get(x.shard)
                self._patients[x.shard] = _Patient(x.rung, known.since if known else now)
            for sentence in sentences(replace(healing, shards=told), left.survey):
                self._context.journal.write("healing", text=sentence)
        return found

    def _check_origin(self, left: Remains, given: tuple[str, ...]) -> None:
        """Wait for who has embedding or head: without them the run would begin anew.

        Raises: PeerUnavailable if nobody here has a copy, however old.
        """
        shards = [one for healing in plan_healing(left.survey) for one in healing.shards]
        seeded = [x.shard for x in shards if x.rung is Rung.SEED and x.shard in given]
        gone = [shard for shard in seeded if not is_block(shard)]
        if not gone:
            return
        self._finder.forgive()
        text = f"nobody here has a copy of {named(gone)}: waiting for who does"
        if text != self._context.facts.warning:
            self._context.facts.warning = text
            self._context.journal.write("warning", text=text)
        raise PeerUnavailable("SK-NET-003", text)

    def _is_known(self, one: ShardHealing) -> bool:
        """Say whether it was told already how a shard comes back."""
        patient = self._patients.get(one.shard)
        return patient is not None and patient.rung is one.rung

    async def _sources(
        self, left: Remains, healings: tuple[StageHealing, ...], holders: tuple[PeerId, ...]
    ) -> tuple[Stage, ...]:
        """Get the stages that lost ones are made of."""
        made = [one for healing in healings for one in healing.shards]
        numbers = sorted({number for one in made for number in one.made_of})
        wanted = tuple(entry for number in numbers for entry in left.blocks[number])
        shards, _ = await self._payloads.fetch_state(wanted, holders)
        found = {shard.shard: shard for shard in shards}
        return tuple(
            Stage(
                number,
                tuple(found[entry.shard] for entry in left.blocks[number]),
                left.norms[number],
            )
            for number in numbers
        )

    def _of_use(self, goal: CommitHash, copies: Mapping[str, HeldShadow]) -> tuple[StaleCopy, ...]:
        chain = self._context.state.rounds.chain
        found = {shard: of_use(held, chain, goal) for shard, held in copies.items()}
        return tuple(StaleCopy(shard, copy.parts) for shard, copy in found.items())

    async def _made(
        self,
        healings: tuple[StageHealing, ...],
        there: tuple[Stage, ...],
        copies: tuple[StaleCopy, ...],
    ) -> Made:
        """Have shards made. Raises: ComputeError("SK-CMP-001") if that process fails."""
        context = self._context
        request = Request(
            manifest=context.manifest.canonical().decode(),
            store=str(context.blobs.folder),
            healings=healings,
            there=there,
            copies=copies,
        )
        try:
            found = await answer_of("skerry.recovery.rebuilder", request.to_json(), _SECONDS)
        except ComputeError as error:
            context.journal.write("warning", text=f"what was lost is not made yet: {error}")
            raise
        return Made.from_json(found)
