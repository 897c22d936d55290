"""The planner's plan as the one that travels: shards for blocks, places for names, slots.

Both are plain data; the one of protocol/rings/plan.py is what every peer of the run follows, and is
only followed after ``check_plan``.
"""

from collections.abc import Mapping
from types import MappingProxyType

from skerry.pipeline.planning.plan import Blocks, Path, Plan, Ring
from skerry.pipeline.stages.cuts import EMBED, HEAD
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest, ModelSection
from skerry.protocol.rings import plan as wire

NOT_SAID: Mapping[str, float] = MappingProxyType({})


def ring_plan(plan: Plan, manifest: Manifest, rates: Mapping[str, float] = NOT_SAID) -> wire.Plan:
    """Return the plan that peers are to follow. Raises: ProtocolError if they could not.

    Args:
        rates: on which the plan counts, text tokens per second through one block, by peer.
    """
    travels = wire.Plan(
        version=plan.version,
        microbatch_tokens=manifest.ring.microbatch * manifest.model.context,
        stages=tuple(wire.Stage(stage_shards(i, b)) for i, b in enumerate(plan.stages)),
        rings=tuple(_ring(ring, manifest.ring.slots, rates) for ring in plan.rings),
        spares=tuple(PeerId(spare) for spare in plan.spares),
        shadows=tuple(
            wire.Shadow(shadow.stage, PeerId(shadow.source), PeerId(shadow.holder))
            for shadow in plan.shadows
        ),
    )
    check_plan(travels, manifest)
    return travels


def check_plan(plan: wire.Plan, manifest: Manifest) -> None:
    """Refuse a plan that the peers of this run cannot follow. Raises: ProtocolError."""
    wire.check_plan(plan)
    check_shards(plan, manifest.model)
    microbatches = -(-manifest.inner.batch_size // manifest.ring.microbatch)
    hosted = max(len(member.stages) for ring in plan.rings for member in ring.members)
    if microbatches > wire.MAX_MICROBATCHES or microbatches * hosted > wire.MAX_ACCOUNTS:
        raise ProtocolError("plan", f"{microbatches} microbatches are too many for one step")


def stage_shards(stage: int, blocks: Blocks) -> tuple[str, ...]:
    """Return the shards of a stage, in their order."""
    own = tuple(f"block.{i}" for i in range(blocks.start, blocks.stop))
    return (EMBED, *own, HEAD) if stage == 0 else own


def check_shards(plan: wire.Plan, section: ModelSection) -> None:
    """Refuse a plan whose stages are not those of this model, in order. Raises: ProtocolError."""
    start = 0
    for number, stage in enumerate(plan.stages):
        stop = start + sum("." in shard for shard in stage.shards)
        expected = stage_shards(number, Blocks(start, stop))
        if stage.shards != expected or not expected:
            raise ProtocolError("plan", f"stage {number} has shards {list(stage.shards)[:8]}")
        start = stop
    if start != section.layers:
        raise ProtocolError("plan", f"{start} blocks, the model has {section.layers}")


def _ring(ring: Ring, slots: int, rates: Mapping[str, float]) -> wire.Ring:
    places = {member.peer: place for place, member in enumerate(ring.members)}
    paths = tuple(_path(path, places) for path in ring.paths)
    members = tuple(
        wire.Member(
            PeerId(m.peer), m.stages, max(slots, _visits(paths, place)), rates.get(m.peer, 0.0)
        )
        for place, m in enumerate(ring.members)
    )
    return wire.Ring(members, paths, min(ring.in_flight, members[wire.ORIGIN].slots))


def _path(path: Path, places: dict[str, int]) -> wire.Path:
    hops = tuple(wire.Hop(places[hop.peer], hop.stages) for hop in path.hops)
    return wire.Path(hops, path.microbatches)


def _visits(paths: tuple[wire.Path, ...], member: int) -> int:
    """Return how often one microbatch visits a member, at most: so many slots it needs."""
    return max(sum(hop.member == member for hop in path.hops) for path in paths)
