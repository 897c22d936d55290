"""What a draft costs in time and memory."""

import pytest

from skerry.pipeline import capacity
from skerry.pipeline.planning.draft import RingDraft, Workshop, needed_bytes
from skerry.pipeline.planning.plan import Blocks
from skerry.pipeline.planning.problem import Limits
from skerry.pipeline.planning.simulator import Simulator
from skerry.pipeline.planning.swarm_file import problem_of, read_swarm_file

CUTS = (Blocks(0, 2), Blocks(2, 4), Blocks(4, 6), Blocks(6, 8))


def workshop(problem) -> Workshop:
    return Workshop(problem, Simulator(problem), CUTS)


def test_memory_is_what_the_compute_process_counts(manifest) -> None:
    # One microbatch as large as the batch; without the inputs of microbatches that wait.
    run = manifest.model_copy(
        update={"ring": manifest.ring.model_copy(update={"microbatch": manifest.inner.batch_size})}
    )
    swarm = read_swarm_file(
        "peers.toml", '[[peers]]\nname = "p"\nmemory = "1GB"\ntflops = 1\nupload = "1mbit"\n'
    )
    problem = problem_of(swarm, run)
    inputs = problem.traffic.microbatch_tokens * problem.model.width * 4 * problem.limits.slots
    blocks = problem.model.blocks
    assert needed_bytes(problem, blocks, True) - inputs == capacity.needed_bytes(manifest)


def test_adjacent_stages_of_a_member_are_one_hop() -> None:
    ring = RingDraft((7, 8), ((0, 1), (2, 3)), (((0, 1, 2, 3), 5),))
    assert ring.hops(ring.paths[0]) == [(0, (0, 1)), (1, (2, 3))]
    assert ring.microbatches == 5


def test_a_path_that_begins_elsewhere_visits_the_origin_for_the_embedding() -> None:
    ring = RingDraft((7, 8), ((0,), (1,)), (((1, 0), 1),))
    assert ring.hops(ring.paths[0]) == [(0, ()), (1, (1,)), (0, (0,))]


def test_a_ring_s_step_is_simulated_once(make_swarm) -> None:
    shop = workshop(make_swarm())
    ring = RingDraft((0, 1), ((0, 1), (2, 3)), (((0, 1, 2, 3), 2),))
    first = shop.step_s(ring)
    # 2 microbatches, 2 peers: at least one after the other on the slower, and one on both.
    assert first > 4 * (1 + 2) * 2
    shop.simulator = None  # type: ignore[assignment]
    assert shop.step_s(ring) == first


def test_memory_and_the_limit_of_blocks_decide_what_fits(make_swarm) -> None:
    shop = workshop(make_swarm())
    assert shop.fits(0, (0,))
    assert shop.fits(0, (1, 2))
    assert not shop.fits(0, (0, 1))
    assert shop.room(0) == 2
    narrow = workshop(make_swarm(limits=Limits(slots=4, max_blocks=2)))
    assert not narrow.fits(0, (1, 2))
    assert narrow.room(0) == 1


def test_a_peer_too_small_for_any_stage_has_no_room(make_swarm) -> None:
    assert workshop(make_swarm(memory=1_000_000)).room(0) == 0


def test_seconds_count_the_head_on_the_origin(make_swarm) -> None:
    shop = workshop(make_swarm(speeds=(2.0,) * 6))
    assert shop.seconds(0, (1,)) == pytest.approx(2 * 3 / 2)
    assert shop.seconds(0, (0,)) == pytest.approx((2 * 3 + 1) / 2)
