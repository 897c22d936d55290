"""From the planner's plan to the one that travels."""

from dataclasses import replace

import pytest

from skerry.pipeline.planning.plan import Blocks, Hop, Member, Path, Plan, Ring, Shadow
from skerry.pipeline.planning.ring_plan import check_plan, ring_plan
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import InnerSection, Manifest, ModelSection, RingSection
from skerry.protocol.rings import plan as wire
from skerry.protocol.rings.codec import decode_plan, encode_plan

MANIFEST = Manifest(
    owner=PeerId("12D3KooWowner"),
    model=ModelSection(layers=6, context=10),
    inner=InnerSection(batch_size=12),
    ring=RingSection(microbatch=3, slots=2),
)
TURNED = (Hop("a", ()), Hop("b", (1,)), Hop("a", (0,)), Hop("b", (2,)))
RING = Ring(
    members=(Member("a", (0,)), Member("b", (1, 2))),
    paths=(Path((Hop("a", (0,)), Hop("b", (1, 2))), 3), Path(TURNED, 1)),
    in_flight=5,
    step_s=10.0,
)
ALONE = Ring((Member("c", (0, 1, 2)),), (Path((Hop("c", (0, 1, 2)),), 6),), 1, 8.0)
PLAN = Plan(
    version=7,
    stages=(Blocks(0, 0), Blocks(0, 2), Blocks(2, 6)),
    rings=(RING, ALONE),
    spares=("d",),
    shadows=(Shadow(1, "b", "d"),),
    microbatch_tokens=99,
)


def test_it_says_the_same_with_shards_and_places():
    plan = ring_plan(PLAN, MANIFEST)
    assert (plan.version, plan.microbatch_tokens, plan.spares) == (7, 30, ("d",))
    assert [stage.shards for stage in plan.stages] == [
        ("embed", "head"),
        ("block.0", "block.1"),
        ("block.2", "block.3", "block.4", "block.5"),
    ]
    ring, alone = plan.rings
    assert [(m.peer, m.stages, m.slots) for m in ring.members] == [("a", (0,), 2), ("b", (1, 2), 2)]
    assert ring.paths[0] == wire.Path((wire.Hop(0, (0,)), wire.Hop(1, (1, 2))), 3)
    assert [hop.member for hop in ring.paths[1].hops] == [0, 1, 0, 1]
    assert ring.in_flight == 2, "no more than the origin has slots for"
    assert alone.members[0].stages == (0, 1, 2)
    assert plan.shadows == (wire.Shadow(1, PeerId("b"), PeerId("d")),)
    assert decode_plan(encode_plan(plan)) == plan


def test_members_have_slots_for_one_microbatch_at_least():
    one = MANIFEST.model_copy(update={"ring": RingSection(microbatch=3, slots=1)})
    assert [member.slots for member in ring_plan(PLAN, one).rings[0].members] == [2, 2]


@pytest.mark.parametrize(
    "stages",
    [
        ((), ("block.0", "block.1"), ("block.2", "block.3", "block.4", "block.5")),
        (("head", "embed"), ("block.0", "block.1"), ("block.2", "block.3", "block.4", "block.5")),
        (("embed", "head"), ("block.1", "block.0"), ("block.2", "block.3", "block.4", "block.5")),
        (("embed", "head"), ("block.0",), ("block.2", "block.3", "block.4", "block.5")),
        (("embed", "head"), ("block.0", "block.1"), ("block.2", "block.3", "block.4")),
        (("embed", "head"), ("block.0", "block.1"), ()),
    ],
)
def test_stages_of_another_model_are_refused(stages):
    plan = ring_plan(PLAN, MANIFEST)
    wrong = replace(plan, stages=tuple(wire.Stage(shards) for shards in stages))
    with pytest.raises(ProtocolError, match=r"shards|blocks"):
        check_plan(wrong, MANIFEST)


def test_a_step_of_too_many_microbatches_is_refused():
    inner = MANIFEST.inner.model_copy(update={"batch_size": 3 * wire.MAX_MICROBATCHES + 1})
    with pytest.raises(ProtocolError, match="4097 microbatches"):
        ring_plan(PLAN, MANIFEST.model_copy(update={"inner": inner}))
