"""Copies lie where they survive what is copied."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.planning.draft import RingDraft, Workshop
from skerry.pipeline.planning.plan import Blocks, Shadow
from skerry.pipeline.planning.problem import Limits, Problem
from skerry.pipeline.planning.shadows import shadows
from skerry.pipeline.planning.simulator import Simulator

CUTS = (Blocks(0, 2), Blocks(2, 5), Blocks(5, 8))
RING = RingDraft((0, 1, 2), ((0,), (1,), (2,)), (((0, 1, 2), 4),))


def shop(problem: Problem, cuts: tuple[Blocks, ...] = CUTS) -> Workshop:
    return Workshop(problem, Simulator(problem), cuts)


def in_domains(problem: Problem, *domains: str) -> Problem:
    peers = zip(problem.peers, domains, strict=True)
    return replace(problem, peers=tuple(replace(peer, domain=one) for peer, one in peers))


def chain_of(stages: int) -> tuple[tuple[Blocks, ...], RingDraft]:
    """Cuts of so many stages, the first without blocks, and a ring with a peer for each."""
    ends = [8 * i // (stages - 1) for i in range(stages)]
    cuts = (Blocks(0, 0), *(Blocks(one, other) for one, other in pairwise(ends)))
    numbers = tuple(range(stages))
    return cuts, RingDraft(numbers, tuple((n,) for n in numbers), ((numbers, 4),))


def test_a_spare_in_another_domain_is_the_first_choice(make_swarm) -> None:
    problem = in_domains(make_swarm(5), "x", "y", "z", "w", "x")
    found = shadows(shop(problem), [RING], [3, 4])
    # p4 shares p0's domain.
    assert found[:2] == (Shadow(0, "p0", "p1"), Shadow(0, "p0", "p3"))
    assert {shadow.holder for shadow in found[1:]} == {"p3", "p4"}


def test_embedding_and_head_lie_on_a_neighbour_and_with_somebody_else(make_swarm) -> None:
    problem = in_domains(make_swarm(6), *"abcdef")
    cuts, ring = chain_of(6)
    found = [s.holder for s in shadows(shop(problem, cuts), [ring], []) if s.stage == 0]
    assert found == ["p1", "p2"], "the next stage's host, and one that is not beside it"
    here = in_domains(problem, "a", "a", *"cdef")
    [beside, other] = [s.holder for s in shadows(shop(here, cuts), [ring], []) if s.stage == 0]
    assert (beside, other) == ("p5", "p2"), "the last stage's host is in another domain"


def test_blocks_lie_on_no_neighbour_in_the_ring_if_there_is_somebody_else(make_swarm) -> None:
    problem = in_domains(make_swarm(3), "x", "y", "z")
    assert shadows(shop(problem), [RING], []) == (
        Shadow(0, "p0", "p1"),
        Shadow(0, "p0", "p2"),
        Shadow(1, "p1", "p0"),
        Shadow(2, "p2", "p0"),
    )


def test_in_a_ring_of_two_each_keeps_what_the_other_has(make_swarm) -> None:
    cuts, ring = chain_of(2)
    problem = in_domains(make_swarm(2), "x", "x")
    found = shadows(shop(problem, cuts), [ring], [])
    assert found == (Shadow(0, "p0", "p1"), Shadow(1, "p1", "p0"))


def test_a_whole_domain_is_likelier_lost_than_two_neighbours(make_swarm) -> None:
    problem = in_domains(make_swarm(4), "x", "y", "x", "x")
    cuts, ring = chain_of(4)
    holders = {s.stage: s.holder for s in shadows(shop(problem, cuts), [ring], [])}
    assert (holders[2], holders[3]) == ("p1", "p1")


def test_what_a_full_replica_has_is_copied_from_the_ring(make_swarm) -> None:
    """The plan that travels names the members of rings and those that stand by, nobody else."""
    problem = in_domains(make_swarm(4), "x", "y", "z", "w")
    replica = RingDraft((3,), ((0, 1, 2),), (((0, 1, 2), 4),))
    found = shadows(shop(problem), [replica, RING], [])
    assert {shadow.source for shadow in found} == {"p0", "p1", "p2"}
    assert all(shadow.holder != "p3" for shadow in found)
    assert shadows(shop(problem), [replica], []) == ()


def test_stages_in_enough_domains_need_none(make_swarm) -> None:
    problem = in_domains(make_swarm(6), "x", "y", "z", "u", "v", "w")
    other = replace(RING, members=(3, 4, 5))
    assert shadows(shop(problem), [RING, other], []) != ()
    limits = replace(problem.limits, shadow_below=2)
    assert shadows(shop(replace(problem, limits=limits)), [RING, other], []) == ()
    assert shadows(shop(replace(problem, limits=Limits(shadow_below=0))), [RING], []) == ()


def test_a_copy_lies_on_disk_and_takes_no_memory(make_swarm) -> None:
    problem = in_domains(make_swarm(4), "x", "y", "z", "w")
    spare = replace(problem.peers[3], memory=1_000)
    problem = replace(problem, peers=(*problem.peers[:3], spare))
    found = shadows(shop(problem), [RING], [3])
    assert {shadow.holder for shadow in found[1:]} == {"p3"}


@settings(max_examples=50)
@given(st.integers(2, 8), st.integers(0, 3), st.data())
def test_whoever_is_lost_every_stage_of_a_ring_is_somewhere_else(make_swarm, stages, spares, data):
    everyone = range(stages + spares)
    domains = data.draw(st.tuples(*(st.sampled_from("abc") for _ in everyone)))
    cuts, ring = chain_of(stages)
    problem = in_domains(make_swarm(len(everyone)), *domains)
    holders: defaultdict[int, list[int]] = defaultdict(list)
    for one in shadows(shop(problem, cuts), [ring], everyone[stages:]):
        assert one.source == f"p{one.stage}"
        holders[one.stage].append(int(one.holder[1:]))
    for stage in range(stages):
        *before, best = holders[stage]
        assert len(before) == (stage == 0 and len(everyone) > 2)
        others = set(everyone) - {stage, *before}
        apart = {peer for peer in others if domains[peer] != domains[stage]} or others
        not_beside = {peer for peer in apart if peer >= stages or abs(peer - stage) > 1}
        assert best in (not_beside or apart)
    assert holders[0][0] in (1, stages - 1)
