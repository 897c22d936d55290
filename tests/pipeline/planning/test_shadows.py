"""Copies lie where they survive what is copied."""

from dataclasses import replace

from skerry.pipeline.planning.draft import RingDraft, Workshop
from skerry.pipeline.planning.plan import Blocks, Shadow
from skerry.pipeline.planning.problem import Limits, Problem
from skerry.pipeline.planning.shadows import shadows
from skerry.pipeline.planning.simulator import Simulator

CUTS = (Blocks(0, 2), Blocks(2, 5), Blocks(5, 8))
RING = RingDraft((0, 1, 2), ((0,), (1,), (2,)), (((0, 1, 2), 4),))


def shop(problem: Problem) -> Workshop:
    return Workshop(problem, Simulator(problem), CUTS)


def in_domains(problem: Problem, *domains: str) -> Problem:
    peers = zip(problem.peers, domains, strict=True)
    return replace(problem, peers=tuple(replace(peer, domain=one) for peer, one in peers))


def test_a_spare_in_another_domain_is_the_first_choice(make_swarm) -> None:
    problem = in_domains(make_swarm(5), "x", "y", "z", "w", "x")
    found = shadows(shop(problem), [RING], [3, 4])
    # p4 shares p0's domain; p0, p1 and p2 are neighbours or hold no less than the spares.
    assert found[0] == Shadow(0, "p0", "p3")
    assert {shadow.holder for shadow in found} == {"p3", "p4"}


def test_never_a_neighbour_in_the_ring(make_swarm) -> None:
    problem = in_domains(make_swarm(3), "x", "y", "z")
    assert shadows(shop(problem), [RING], []) == (Shadow(0, "p0", "p2"), Shadow(2, "p2", "p0"))


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
    assert {shadow.holder for shadow in found} == {"p3"}
