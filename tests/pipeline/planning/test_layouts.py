"""First layouts: who is alone, who is near whom, who does how much."""

from dataclasses import replace

import pytest

from skerry.pipeline.planning.draft import Workshop
from skerry.pipeline.planning.layouts import complete_layout, paths_over, staged, swapped_ends
from skerry.pipeline.planning.plan import Blocks
from skerry.pipeline.planning.problem import Limits
from skerry.pipeline.planning.simulator import Simulator
from skerry.pipeline.planning.skipping import skipping_layout

CUTS = (Blocks(0, 2), Blocks(2, 4), Blocks(4, 6), Blocks(6, 8))


def workshop(problem) -> Workshop:
    return Workshop(problem, Simulator(problem), CUTS)


def test_rings_are_of_one_site_and_as_small_as_memory_allows(make_swarm) -> None:
    layout = complete_layout(workshop(make_swarm(6)), range(6), [])
    assert [set(ring.members) for ring in layout.rings] == [{0, 1, 2}, {3, 4, 5}]
    assert all(ring.paths == (((0, 1, 2, 3), 4),) for ring in layout.rings)
    assert layout.spares == []


def test_who_can_be_no_part_of_a_ring_is_left_over(make_swarm) -> None:
    layout = complete_layout(workshop(make_swarm(5)), range(5), [])
    assert len(layout.rings) == 1
    assert len(layout.spares) == 2
    assert complete_layout(workshop(make_swarm(2)), range(2), []).rings == []


@pytest.mark.parametrize("able", range(6))
def test_a_ring_is_found_wherever_the_one_stands_that_can_be_its_origin(make_swarm, able) -> None:
    problem = make_swarm(6, memory=60_000_000)
    peers = list(problem.peers)
    peers[able] = replace(peers[able], memory=1 << 27)
    layout = complete_layout(workshop(replace(problem, peers=tuple(peers))), range(6), [])
    [ring] = layout.rings
    assert ring.members[0] == able


def test_microbatches_are_shared_in_proportion_to_speed(make_swarm) -> None:
    speeds = (3.0, 3.0, 3.0, 1.0, 1.0, 1.0)
    layout = complete_layout(workshop(make_swarm(6, speeds=speeds, microbatches=13)), range(6), [])
    assert sorted(ring.microbatches for ring in layout.rings) == [3, 10]


def test_every_ring_does_at_least_one_microbatch(make_swarm) -> None:
    speeds = (100.0, 100.0, 100.0, 1.0, 1.0, 1.0)
    layout = complete_layout(workshop(make_swarm(6, speeds=speeds, microbatches=4)), range(6), [])
    assert min(ring.microbatches for ring in layout.rings) == 1


def test_a_member_s_share_follows_its_speed_and_its_memory(make_swarm) -> None:
    shop = workshop(make_swarm(3, speeds=(1.0, 4.0, 1.0), memory=1 << 40))
    assert staged(shop, (0, 1)) == ((0,), (1, 2, 3))
    assert staged(workshop(make_swarm(3)), (0, 1)) is None  # two blocks on the origin, four more
    assert staged(shop, range(5)) is None  # more members than stages


def test_a_part_of_the_microbatches_takes_the_ends_in_reverse(make_swarm) -> None:
    shop = workshop(make_swarm(3, limits=Limits(swap_ratio=0.5)))
    assert paths_over(shop, (0, 1, 2, 3), 5) == (((0, 1, 2, 3), 3), ((1, 0, 3, 2), 2))
    shop = workshop(make_swarm(3, limits=Limits(swap_ratio=0.9)))
    assert paths_over(shop, (0, 1, 2, 3), 1) == (((1, 0, 3, 2), 1),)
    assert paths_over(shop, (0, 1, 2), 4) == (((0, 1, 2), 4),)
    shop = workshop(make_swarm(3, limits=Limits(swap_ratio=0.01)))
    assert paths_over(shop, (0, 1, 2, 3), 5) == (((0, 1, 2, 3), 4), ((1, 0, 3, 2), 1))


def test_paths_that_skip_swap_as_often_as_others(make_swarm) -> None:
    """Each path has few microbatches; what is asked for is a share of all of the ring's."""
    limits = Limits(slots=4, skip_ratio=1 / 6, swap_ratio=0.3)
    cuts = tuple(Blocks(i, i + 1) for i in range(6))
    problem = make_swarm(1, limits=limits, memory=1 << 40, per_ring=10)
    (ring,) = skipping_layout(Workshop(problem, Simulator(problem), cuts)).rings
    assert len(ring.paths) > 5
    assert sum(count for path, count in ring.paths if list(path) != sorted(path)) == 3
    assert ring.microbatches == 10


@pytest.mark.parametrize(
    ("stages", "first", "swapped"),
    [
        ((0, 1, 2, 3, 4), True, (1, 0, 2, 4, 3)),
        ((0, 1, 2, 3, 4), False, (0, 2, 1, 4, 3)),
        ((0, 1, 2, 3), False, (0, 1, 2, 3)),
    ],
)
def test_ends_are_those_with_blocks(stages, first, swapped) -> None:
    assert swapped_ends(stages, first) == swapped


SKIPPING = Limits(slots=4, skip_ratio=1 / 3)


def test_skipping_rings_host_each_middle_stage_equally_often(make_swarm) -> None:
    layout = skipping_layout(workshop(make_swarm(9, limits=SKIPPING)))
    assert len(layout.rings) == 3
    hosted = [stage for ring in layout.rings for own in ring.stages for stage in own]
    assert sorted(hosted) == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert all(len(path) == 3 for ring in layout.rings for path, _ in ring.paths)
    assert layout.spares == []


def test_a_full_replica_takes_its_paths_equally_often(make_swarm) -> None:
    problem = make_swarm(1, limits=SKIPPING, memory=1 << 40, per_ring=6)
    (ring,) = skipping_layout(workshop(problem)).rings
    assert ring.paths == (((0, 1, 2), 2), ((0, 1, 3), 2), ((0, 2, 3), 2))


def test_each_skipping_ring_has_an_origin_that_can_be_one(make_swarm) -> None:
    # Room for a stage, but not with embedding and head; only the last two can be origins.
    problem = make_swarm(8, limits=SKIPPING, memory=60_000_000)
    able = tuple(replace(peer, memory=1 << 27) for peer in problem.peers[6:])
    problem = replace(problem, peers=(*problem.peers[:6], *able))
    shop = workshop(problem)
    assert not shop.fits(0, (0,))
    layout = skipping_layout(shop)
    assert {ring.members[0] for ring in layout.rings} == {6, 7}
    nobody = workshop(make_swarm(8, limits=SKIPPING, memory=60_000_000))
    assert skipping_layout(nobody).rings == []


def test_peers_too_small_for_a_stage_are_left_over(make_swarm) -> None:
    problem = make_swarm(4, limits=SKIPPING)
    small = replace(problem.peers[0], memory=1_000)
    layout = skipping_layout(workshop(replace(problem, peers=(small, *problem.peers[1:]))))
    assert layout.rings == []  # three stages on two hosts: not equally often
    problem = make_swarm(10, limits=SKIPPING)
    small = replace(problem.peers[0], memory=1_000)
    layout = skipping_layout(workshop(replace(problem, peers=(small, *problem.peers[1:]))))
    assert layout.spares == [0]
