"""What a plan says of itself."""

import pytest

from skerry.pipeline.planning.plan import Blocks, Hop, Member, Path, Plan, Ring, Role

RING = Ring(
    members=(Member("a", (0,)), Member("b", (1, 2))),
    paths=(
        Path((Hop("a", (0,)), Hop("b", (1, 2))), 3),
        Path((Hop("a", (0,)), Hop("b", (2,))), 1),
    ),
    in_flight=2,
    step_s=10.0,
)
ALONE = Ring((Member("c", (0, 1, 2)),), (Path((Hop("c", (0, 1, 2)),), 6),), 1, 8.0)
PLAN = Plan(
    version=1,
    stages=(Blocks(0, 1), Blocks(1, 3), Blocks(3, 6)),
    rings=(RING, ALONE),
    spares=("d",),
    shadows=(),
    microbatch_tokens=50,
)


def test_roles_follow_from_the_rings() -> None:
    assert PLAN.role_of("a") is PLAN.role_of("b") is Role.STAGE
    assert PLAN.role_of("c") is Role.REPLICA
    assert PLAN.role_of("d") is Role.SPARE
    with pytest.raises(KeyError):
        PLAN.role_of("e")


def test_rings_take_as_many_steps_as_the_slowest() -> None:
    assert (RING.origin, RING.microbatches, RING.is_replica) == ("a", 4, False)
    assert ALONE.is_replica
    assert PLAN.step_s == 10.0
    assert PLAN.text_tokens_s == 10 * 50 / 10.0
    assert PLAN.visits() == (10, 9, 10)
    assert PLAN.blocks_of((0, 2)) == 4
