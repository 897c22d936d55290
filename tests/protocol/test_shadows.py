"""What a stale copy may be, and whom the plan lets send it."""

from dataclasses import replace

import pytest

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import Address, PeerId, RunId
from skerry.protocol.messages import ShadowCopy, ShardPayload
from skerry.protocol.rings.plan import Hop, Member, Path, Plan, Ring, Shadow, Stage
from skerry.protocol.shadows import (
    MAX_PARTS,
    UNPLANNED,
    check_parts,
    check_planned,
    has_room,
    part_limit,
    planned,
)

NUMEL = 1000
A, B, C = (PeerId(name) for name in "abc")
PLAN = Plan(
    version=1,
    microbatch_tokens=1,
    stages=(Stage(("embed", "head")), Stage(("block.0", "block.1"))),
    rings=(
        Ring((Member(A, (0,), 1), Member(B, (1,), 1)), (Path((Hop(0, (0,)), Hop(1, (1,))), 1),), 1),
    ),
    spares=(C,),
    shadows=(Shadow(1, B, C),),
)


def part(size: int) -> ShardPayload:
    return ShardPayload("block.0", Address("aa" * 32), size)


def copy(*sizes: int) -> ShadowCopy:
    return ShadowCopy(RunId("00" * 32), "block.0", 1, tuple(map(part, sizes)))


def refused(one: ShadowCopy) -> str:
    with pytest.raises(ProtocolError) as caught:
        check_parts(one, NUMEL)
    return caught.value.reason


def test_a_copy_is_never_longer_than_two_whole_ones() -> None:
    limit = part_limit(NUMEL)
    check_parts(copy(limit, limit), NUMEL)
    check_parts(copy(*[10] * MAX_PARTS), NUMEL)
    assert refused(copy(limit + 1)) == "size"
    assert refused(copy(limit, limit, 1)) == "size"
    assert refused(copy(*[10] * (MAX_PARTS + 1))) == "size"
    assert refused(copy()) == "size"


def test_parts_are_of_the_shard_itself() -> None:
    assert refused(replace(copy(10), shard="block.1")) == "shadow"


def test_what_steps_have_made_comes_upon_a_start() -> None:
    check_parts(replace(copy(10, 3), step=5), NUMEL)
    assert refused(replace(copy(10), step=5)) == "shadow"
    assert replace(copy(10, 3), step=5).at_start == copy(10)
    assert copy(10, 3).at_start == copy(10, 3)


def test_whatever_a_source_may_add_a_holder_takes() -> None:
    limit = part_limit(NUMEL)
    for before in ([limit], [limit // 2, limit // 2], [10] * (MAX_PARTS - 1)):
        assert has_room([part(size) for size in before], NUMEL)
        check_parts(copy(*before, limit), NUMEL)
    for full in ([], [limit, 1], [10] * MAX_PARTS):
        assert not has_room([part(size) for size in full], NUMEL)


def test_only_the_plan_s_host_sends_to_the_plan_s_holder() -> None:
    check_planned(PLAN, "block.1", B, C)
    assert planned(PLAN, "embed") == planned(None, "block.0") == ()
    for plan, shard, source, holder in (
        (PLAN, "block.0", A, C),
        (PLAN, "block.0", B, A),
        (PLAN, "embed", B, C),
        (None, "block.0", B, C),
    ):
        with pytest.raises(ProtocolError) as caught:
            check_planned(plan, shard, source, holder)
        assert caught.value.reason == UNPLANNED
