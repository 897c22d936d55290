"""Which microbatches pass over a stage that was made up and has to train back in. Pure.

A stage that was interpolated disturbs every microbatch that visits it, and with it the gradients of
all other stages. So at first only some visit it; they give it gradients of its own, divided by the
text tokens that visited (stages/optimizer.py), while the others train the rest of the model without
it. The share of visitors rises linearly until all visit.

Only its host knows how a stage came back, so the host tells the origin, before it grants any slot,
and the origin leaves it out of the routes that it draws. It does so once for each microbatch: one
that has set out keeps its way if it has to be begun anew, since a stage that counted it must not be
left out afterwards.

Source: none of CheckFree; SkipPipe (arXiv:2502.19913) trains paths that skip stages.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from skerry.protocol.ids import short
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.actions import Action, Note
from skerry.protocol.rings.driving import Drive, Microbatch
from skerry.protocol.rings.events import StagesRebuilt
from skerry.protocol.rings.plan import ORIGIN, Route
from skerry.protocol.rings.state import RingState, refuse, tell

_FIRST = 0
"""The origin's stage: it is never passed over."""


@dataclass(frozen=True, slots=True)
class Bypass:
    """How a stage is trained back in."""

    first: float = 0.5
    """Share of the microbatches that pass over it in the first step, below 1."""
    steps: int = 20
    """Inner steps until all visit it; 0: all do at once."""

    def __post_init__(self) -> None:
        """Refuse settings under which a stage would never be trained."""
        if not 0 <= self.first < 1 or self.steps < 0:
            raise ValueError(f"a bypass of {self.first} for {self.steps} steps")

    def passing(self, age: int, microbatches: int, turn: int = 0) -> frozenset[int]:
        """Return which of a step's microbatches pass over the stage; at least one visits it.

        They are spread evenly, and in another place each step.

        Args:
            age: inner steps that it has trained since it was made.
            turn: of two stages side by side it differs, so that few microbatches pass over both.
        """
        if age >= self.steps:
            return frozenset()
        share = self.first * (1 - age / self.steps)
        count = min(round(share * microbatches), microbatches - 1)
        places = (i * microbatches // count for i in range(count))
        return frozenset((turn + age + place) % microbatches for place in places)


# -- at the host -----------------------------------------------------------------------------------


def on_rebuilt(s: RingState, event: StagesRebuilt) -> list[Action]:
    """Own stages were made of others: the origin is to know."""
    mine = (one for one in event.stages if one.stage in s.member.stages and one.stage != _FIRST)
    s.rebuilt.update({one.stage: one.steps for one in mine})
    return tell_origin(s)


def tell_origin(s: RingState) -> list[Action]:
    """Tell the origin which own stages train back in, if any do."""
    young = {stage: age for stage, age in s.rebuilt.items() if age < s.rules.bypass_steps}
    ages = tuple(fr.StageAge(stage, age) for stage, age in sorted(young.items()))
    at = max(s.newest, (0, 0))
    return tell(s, ORIGIN, at, fr.Place(), fr.Rebuilt(ages)) if ages else []


def grow(s: RingState, visits: Iterable[fr.StageVisits]) -> None:
    """Note that the optimizer has stepped with these gradients."""
    for one in visits:
        if one.stage in s.rebuilt:
            s.rebuilt[one.stage] += 1


# -- at the origin ---------------------------------------------------------------------------------


def on_told(s: RingState, d: Drive, source: int, told: fr.Rebuilt) -> list[Action]:
    """Note which stages of a member train back in, and which microbatches pass over them."""
    member = s.ring.members[source]
    if any(one.stage not in member.stages or one.stage == _FIRST for one in told.stages):
        return refuse(s, source, "not-hosted")
    actions: list[Action] = []
    for reported in told.stages:
        # Said again, it is no newer than at first: nobody is spared work for ever.
        spared = d.spared.setdefault((source, reported.stage), 0)
        one = replace(reported, steps=max(reported.steps, spared))
        left = s.rules.bypass_steps - one.steps
        if left <= 0:
            continue
        if one.stage not in d.rebuilt:
            text = f"{short(member.peer)} trains stage {one.stage} back in: {_share(s, one)} of the"
            text += f" microbatches pass over it, ever fewer for {left} inner steps"
            actions.append(Note(text))
        d.rebuilt[one.stage] = one.steps
        if one.stage not in d.passing:
            _draw(s, d, one.stage)
    return actions


def begin_step(s: RingState, d: Drive) -> None:
    """Draw who passes over what in the step that begins; one that only measures visits all."""
    d.passing, d.visited = {}, set()
    for stage in d.rebuilt if not d.forward_only else ():
        _draw(s, d, stage)


def end_step(s: RingState, d: Drive) -> list[Action]:
    """Note that a step has trained; say which stages all visit from now on.

    It counts for all of them: where planned paths skip stages, too, one may have had no visit.
    """
    d.spared = {told: steps + 1 for told, steps in d.spared.items()}
    d.rebuilt = {stage: age + 1 for stage, age in d.rebuilt.items()}
    back = sorted(stage for stage, age in d.rebuilt.items() if age >= s.rules.bypass_steps)
    d.rebuilt = {stage: age for stage, age in d.rebuilt.items() if stage not in back}
    return [Note(f"stage {stage} is back: all microbatches visit it again") for stage in back]


def bypassed(s: RingState, d: Drive, microbatch: Microbatch, route: Route) -> Route:
    """Return a route without the stages that a microbatch passes over, as far as it may miss more.

    Where more train back in than it may miss, it visits the later ones. A stage that not every path
    visits is passed over only when another microbatch visits it.
    """
    if microbatch.on_its_way or d.forward_only:
        return route
    visited = [stage for hop in route for stage in hop.stages]
    room = max(0, s.rules.most_skipped - (len(s.plan.stages) - len(visited)))
    free = [stage for stage in visited if microbatch.number in d.passing.get(stage, ())]
    over = [stage for stage in free if stage in d.visited][:room]
    return tuple(
        replace(hop, stages=tuple(stage for stage in hop.stages if stage not in over))
        for hop in route
    )


def set_out(d: Drive, route: Route) -> None:
    """Note which stages a microbatch visits that slots are asked for."""
    d.visited.update(stage for hop in route for stage in hop.stages)


def _draw(s: RingState, d: Drive, stage: int) -> None:
    """Draw who passes over a stage in the present step."""
    bypass = Bypass(steps=s.rules.bypass_steps)
    trained = sum(microbatch.original is None for microbatch in d.microbatches)
    if trained:
        d.passing[stage] = bypass.passing(d.rebuilt[stage], trained, turn=stage)
    if all(any(stage in hop.stages for hop in path.hops) for path in s.ring.paths):
        d.visited.add(stage)


def _share(s: RingState, one: fr.StageAge) -> str:
    bypass = Bypass(steps=s.rules.bypass_steps)
    return f"{100 * bypass.first * (1 - one.steps / bypass.steps):.0f} %"
