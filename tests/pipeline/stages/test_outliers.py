"""What a neighbour sends beside what it sent before: real rings that train, and single rows.

Shape suffixes: N text tokens, D model width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convergence_sweep.local_ring import LocalRing, Refusal
from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.outliers import PERSISTS, PERSISTS_MOVED, WARM_UP, Outliers
from skerry.pipeline.stages.tasks import Place
from skerry.pipeline.stages.wire import Wire
from skerry.protocol.errors import InputFault

ROUTE = [(0, (0,)), (1, (1,)), (2, (2,))]
STEPS = 16
WIDTH = 32


@dataclass
class Trained:
    """A ring that has trained honestly for a while, and what it refused meanwhile."""

    ring: LocalRing
    wire: Wire
    refused: int
    step: int = STEPS
    attempts: int = 0

    def place(self) -> Place:
        """Another attempt at the first microbatch."""
        self.attempts += 1
        return Place(0, self.attempts, 0)

    def drop(self, place: Place) -> None:
        for hop, host in enumerate(self.ring.hosts):
            host.do(tasks.Drop(step=self.step, place=Place(place.microbatch, place.attempt, hop)))

    def hop(self, place: Place) -> tasks.Forwarded:
        """Let the origin begin a microbatch that is honest until then."""
        task = self.ring.injection(self.step, place, ROUTE, self.step)
        return self.ring.ask(0, task, tasks.Forwarded)

    def forward(self, rows_ND: Tensor, passed: tasks.Forwarded, place: Place) -> tasks.Forwarded:
        ids_BT = self.wire.unpack_ids(passed.ids, 2)
        task = tasks.Forward(
            step=self.step,
            place=Place(place.microbatch, place.attempt, 1),
            stages=(1,),
            sequences=2,
            ids=passed.ids,
            activations=self.wire.pack_activations(rows_ND.view(2, -1, WIDTH), ids_BT),
        )
        return self.ring.ask(1, task, tasks.Forwarded)

    def rows(self, passed: tasks.Forwarded) -> Tensor:
        ids_BT = self.wire.unpack_ids(passed.ids, 2)
        return self.wire.unpack_activations(passed.activations, ids_BT).flatten(0, 1)


@pytest.fixture(scope="module", params=[(0, "wire"), (8, "reparam")], ids=["plain", "subspace"])
def trained(request, ring_manifest, build_ring) -> Trained:
    dim, mode = request.param
    manifest = ring_manifest("int8", dim=dim, mode=mode, clip=1.0)
    ring = build_ring(manifest, (1, 2, 1))
    refused = 0
    for step in range(STEPS):
        for number in range(2):
            refused += not honest(ring, step, Place(number, 0, 0))
        ring.end(step)
    return Trained(ring, Wire(manifest, torch.device("cpu")), refused)


def honest(ring: LocalRing, step: int, place: Place) -> bool:
    """Bring one microbatch round the ring and back; says whether everybody took it."""
    try:
        activations = ring.forward(step, place, ROUTE, batch=step)[-1]
        scored = ring.score(step, place, activations)
        ring.backward(step, place, ROUTE, scored.gradients)
    except Refusal as refusal:
        assert str(refusal) == "outlier"
        return False
    ring.weigh(step, place, ROUTE)
    return True


def test_hardly_anything_honest_is_refused(trained):
    assert trained.refused <= STEPS * 2 // 20


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda rows_ND: rows_ND * 100, id="scaled"),
        pytest.param(lambda rows_ND: rows_ND / 100, id="faded"),
    ],
)
def test_poisoned_activations_are_refused_and_change_nothing(trained, spoil):
    refuse_and_forget(trained, spoil)


@pytest.mark.parametrize("trained", [(0, "wire")], indirect=True)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda rows_ND: rows_ND * (torch.arange(len(rows_ND)) < 2)[:, None], id="cut"),
        pytest.param(lambda rows_ND: rows_ND * 0, id="zero"),
    ],
)
def test_without_a_subspace_rows_that_are_missing_are_noticed(trained, spoil):
    refuse_and_forget(trained, spoil)  # with one, the fixed part of the embedding stands in


def refuse_and_forget(trained: Trained, spoil: Callable[[Tensor], Tensor]) -> None:
    place = trained.place()
    passed = trained.hop(place)
    rows_ND = trained.rows(passed)
    before = trained.ring.hosts[1].bytes_in_flight
    with pytest.raises(Refusal, match="outlier"):
        trained.forward(spoil(rows_ND), passed, place)
    assert trained.ring.hosts[1].bytes_in_flight == before
    trained.forward(rows_ND, passed, place)
    trained.drop(place)


def test_poisoned_gradients_are_refused_and_change_nothing(trained):
    place = trained.place()
    ring, step = trained.ring, trained.step
    activations = ring.forward(step, place, ROUTE, batch=step)[-1]
    gradients = ring.score(step, place, activations).gradients
    rows_BTD = trained.wire.unpack_gradients(gradients, 2)
    hop = Place(place.microbatch, place.attempt, 2)
    bad = trained.wire.pack_gradients(rows_BTD * 1e4, key=1)
    with pytest.raises(Refusal, match="outlier"):
        ring.ask(2, tasks.InputGradient(step=step, place=hop, gradients=bad), tasks.Differentiated)
    good = tasks.InputGradient(step=step, place=hop, gradients=gradients)
    assert ring.ask(2, good, tasks.Differentiated).gradients
    trained.drop(place)


def rows(seed: int, level: float = 1.0) -> Tensor:
    """Rows that share a direction, as a residual stream's do."""
    dice = torch.Generator().manual_seed(seed)
    return level * (1 + torch.randn(24, WIDTH, generator=dice))


def warmed(way="activations") -> Outliers:
    outliers = Outliers(WIDTH)
    for seed in range(WARM_UP):
        outliers.check(way, "block.1", rows(seed))
    return outliers


@pytest.mark.parametrize("way", ["activations", "gradients"])
def test_the_first_ones_only_teach(way):
    outliers = Outliers(WIDTH)
    for number in range(WARM_UP):
        outliers.check(way, "block.1", rows(number, level=10.0 ** (number % 7)))


def test_rows_of_the_opposite_direction_are_refused():
    outliers = warmed()
    with pytest.raises(InputFault, match="direction"):
        outliers.check("activations", "block.1", -rows(99))
    outliers.check("activations", "block.1", rows(99))


def test_rows_without_a_direction_are_refused():
    noise_ND = torch.randn(24, WIDTH, generator=torch.Generator().manual_seed(1))
    with pytest.raises(InputFault, match="direction"):
        warmed().check("activations", "block.1", noise_ND)


def test_one_single_row_may_be_large_in_a_gradient_and_many_may_not():
    outliers = warmed("gradients")
    burst_ND = rows(99)
    burst_ND[3] *= 100
    outliers.check("gradients", "block.1", burst_ND)
    with pytest.raises(InputFault, match="row by row"):
        warmed("gradients").check("gradients", "block.1", rows(99, level=50.0))


def test_what_was_refused_teaches_nothing():
    outliers = warmed()
    for seed in range(PERSISTS - 1):
        with pytest.raises(InputFault):
            outliers.check("activations", "block.1", rows(seed, level=100.0))
    outliers.check("activations", "block.1", rows(99))


def test_what_stays_different_becomes_usual_at_last():
    outliers = warmed()
    for seed in range(PERSISTS):
        with pytest.raises(InputFault):
            outliers.check("activations", "block.1", rows(seed, level=100.0))
    outliers.check("activations", "block.1", rows(99, level=100.0))


def test_after_an_outer_update_what_is_different_becomes_usual_soon_and_only_then():
    outliers = warmed()
    for _ in range(2):  # the second time it is as usual as it was
        outliers.move()
        for seed in range(PERSISTS_MOVED - 1):
            with pytest.raises(InputFault):
                outliers.check("activations", "block.1", rows(seed, level=100.0))
        outliers.check("activations", "block.1", rows(99))
    for seed in range(PERSISTS - 1):
        with pytest.raises(InputFault):
            outliers.check("activations", "block.1", rows(seed, level=100.0))
    outliers.move()
    with pytest.raises(InputFault):
        outliers.check("activations", "block.1", rows(99, level=100.0))
    outliers.check("activations", "block.1", rows(99, level=100.0))


def test_ways_and_shards_are_told_apart_and_can_be_forgotten():
    outliers = warmed()
    outliers.check("gradients", "block.1", rows(1, level=100.0))
    outliers.check("activations", "block.2", rows(1, level=100.0))
    outliers.clear()
    outliers.check("activations", "block.1", rows(1, level=100.0))


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0, 1e30), st.integers(1, 40)), min_size=1, max_size=60),
    st.sampled_from(["activations", "gradients"]),
)
def test_whatever_comes_is_taken_or_named_and_memory_is_bounded(some, way):
    outliers = Outliers(WIDTH)
    for seed, (level, count) in enumerate(some):
        try:
            outliers.check(way, "head", rows(seed, level)[:count])
        except InputFault as fault:
            assert fault.reason == "outlier"
        assert all(len(track.seen) <= 32 for track in outliers._tracks.values())
