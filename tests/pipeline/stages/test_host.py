"""One host at a time: exactly once, refusals that change nothing, bounded memory."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convergence_sweep.local_ring import LocalRing, Refusal
from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.cuts import cut
from skerry.pipeline.stages.host import Room, StageHost, Text
from skerry.pipeline.stages.sizes import debt_bytes, host_size, visit_bytes
from skerry.pipeline.stages.tasks import MAX_HOPS, MAX_MICROBATCHES, Place
from skerry.protocol.errors import ProtocolError

ROUTE = [(0, (0,)), (1, (1,)), (2, (2,))]
FIRST = Place(0, 0, 0)
HOP_1 = Place(0, 0, 1)


@pytest.fixture
def manifest(ring_manifest):
    return ring_manifest("int8", dim=8, mode="reparam")


@pytest.fixture
def ring(build_ring, manifest) -> LocalRing:
    return build_ring(manifest, (1, 2, 1))


def once_round(ring, place, route=ROUTE, step=0) -> list[bytes]:
    """Bring one microbatch all the way; returns the gradients that travelled."""
    activations = ring.forward(step, place, route, batch=step)[-1]
    scored = ring.score(step, place, activations)
    return ring.backward(step, place, route, scored.gradients)


def gradients(host) -> list[torch.Tensor]:
    return [
        torch.zeros(0) if parameter.grad is None else parameter.grad.clone()
        for parameter in host.model.parameters()
    ]


def same(some, others) -> bool:
    return all(torch.equal(*pair) for pair in zip(some, others, strict=True))


def forward_task(ring, place=HOP_1, **changes) -> tasks.Forward:
    passed = ring.ask(0, ring.injection(0, Place(1, 0, 0), [(0, ())], 0), tasks.Forwarded)
    ring.ask(0, tasks.Drop(step=0, place=Place(1, 0, 0)), tasks.Dropped)
    fields = {
        "step": 0,
        "place": place,
        "stages": (1,),
        "sequences": 2,
        "ids": passed.ids,
        "activations": passed.activations,
    }
    return tasks.Forward(**(fields | changes))


class TestExactlyOnce:
    def test_a_second_attempt_adds_nothing_where_the_first_counted(self, build_ring, ring_manifest):
        manifest = ring_manifest("fp32")
        ring = build_ring(manifest, (1, 2, 1))
        activations = ring.forward(0, FIRST, ROUTE, batch=0)[-1]
        scored = ring.score(0, FIRST, activations)
        # The gradient passes host 2 and is lost on its way to host 1.
        task = tasks.InputGradient(step=0, place=Place(0, 0, 2), gradients=scored.gradients)
        ring.ask(2, task, tasks.Differentiated)
        ring.weigh(0, FIRST, ROUTE)
        before = gradients(ring.hosts[2])
        again = Place(0, 1, 0)
        once_round(ring, again)
        ring.weigh(0, again, ROUTE)
        assert same(gradients(ring.hosts[2]), before)
        stages = [stage for host in ring.end(0) for stage in host.stages]
        assert [stage.visits.microbatches for stage in stages] == [(0,)] * 3
        assert [stage.text_tokens for stage in stages] == [24] * 3
        alone = build_ring(manifest, (1, 2, 1))
        once_round(alone, FIRST)
        alone.end(0)
        for one, other in zip(ring.shards(), alone.shards(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

    def test_what_is_owed_for_a_dropped_visit_is_not_counted(self, ring):
        once_round(ring, FIRST)
        ring.ask(1, tasks.Drop(step=0, place=HOP_1), tasks.Dropped)
        assert ring.hosts[1].bytes_in_flight == 0
        stages = [stage for host in ring.end(0) for stage in host.stages]
        assert [stage.visits.microbatches for stage in stages] == [(0,), (), (0,)]
        assert [stage.reason for stage in stages] == ["", "idle", ""]

    def test_a_step_pays_only_what_is_expected_of_it(self, ring):
        once_round(ring, FIRST)
        step = tasks.Step(step=0, expected=(tasks.StageVisits(1, ()),))
        taken = ring.ask(1, step, tasks.Stepped).stages[0]
        assert (taken.visits.microbatches, taken.text_tokens, taken.reason) == ((), 0, "idle")

    def test_a_later_attempt_frees_the_slot_of_the_earlier(self, build_ring, manifest):
        ring = build_ring(manifest, (1, 2, 1), slots=1)
        ring.forward(0, FIRST, ROUTE, batch=0)
        ring.forward(0, Place(0, 1, 0), ROUTE, batch=0)
        with pytest.raises(Refusal, match="slots"):
            ring.forward(0, Place(1, 0, 0), ROUTE, batch=0)

    def test_a_step_can_insist_on_what_it_is_made_of(self, ring):
        once_round(ring, FIRST)
        ring.weigh(0, FIRST, ROUTE)
        before = ring.shards()
        expected = (tasks.StageVisits(1, (0, 1)),)
        refused = ring.ask(1, tasks.Step(step=0, expected=expected), tasks.Stepped).stages[0]
        assert (refused.reason, refused.visits.microbatches) == ("visits", (0,))
        expected = (tasks.StageVisits(2, (0,)),)
        assert (
            ring.ask(2, tasks.Step(step=0, expected=expected), tasks.Stepped).stages[0].reason == ""
        )
        unmoved = [torch.equal(*pair) for pair in zip(before, ring.shards(), strict=True)]
        assert unmoved == [True, True, True, True, False, True], "only block.3 stepped"

    def test_weights_that_were_not_asked_for_are_in_the_step(self, build_ring, manifest):
        asked, unasked = build_ring(manifest, (1, 2, 1)), build_ring(manifest, (1, 2, 1))
        for ring in (asked, unasked):
            once_round(ring, FIRST)
        asked.weigh(0, FIRST, ROUTE)
        for ring in (asked, unasked):
            ring.end(0)
        assert same(asked.shards(), unasked.shards())


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"step": 1}, "early"),
            ({"step": -1}, "stale"),
            ({"stages": (2,)}, "stage"),
            ({"stages": (0,)}, "stage"),
            ({"stages": (1, 1)}, "stage"),
            ({"stages": ()}, "stage"),
            ({"sequences": 3}, "range"),
            ({"sequences": 0}, "range"),
            ({"sequences": 1}, "wrong-count"),
            ({"place": Place(MAX_MICROBATCHES, 0, 1)}, "range"),
            ({"place": Place(0, 0, MAX_HOPS)}, "range"),
            ({"place": Place(-1, 0, 1)}, "range"),
            ({"ids": b""}, "too-short"),
            ({"activations": b""}, "too-short"),
            ({"activations": bytes(8 + 24 * 10)}, "bad-version"),
        ],
    )
    def test_a_forward_pass_is_refused_by_name(self, ring, manifest, changes, reason):
        task = forward_task(ring)
        with pytest.raises(Refusal, match=reason):
            ring.ask(1, replace(task, **changes), tasks.Forwarded)
        assert ring.hosts[1].bytes_in_flight == 0
        ring.ask(1, task, tasks.Forwarded)  # the host goes on

    @pytest.mark.parametrize("cut_off", [1, 20])
    def test_a_payload_of_another_length_is_refused(self, ring, manifest, cut_off):
        task = forward_task(ring)
        for wrong in (task.activations[:-cut_off], task.activations + bytes(cut_off)):
            with pytest.raises(Refusal, match="wrong-length"):
                ring.ask(1, replace(task, activations=wrong), tasks.Forwarded)

    def test_ids_are_refused_where_none_are_needed(self, build_ring, ring_manifest):
        manifest = ring_manifest("int8")
        ring = build_ring(manifest, (1, 2, 1))
        task = forward_task(ring)
        assert task.ids == b""
        with pytest.raises(Refusal, match="wrong-length"):
            ring.ask(1, replace(task, ids=b"x"), tasks.Forwarded)

    def test_a_replayed_visit_is_a_duplicate_even_when_it_is_over(self, ring, manifest):
        task = forward_task(ring)
        ring.ask(1, task, tasks.Forwarded)
        with pytest.raises(Refusal, match="duplicate"):
            ring.ask(1, task, tasks.Forwarded)
        gradient = tasks.InputGradient(step=0, place=task.place, gradients=task.activations)
        ring.ask(1, gradient, tasks.Differentiated)
        with pytest.raises(Refusal, match="duplicate"):
            ring.ask(1, task, tasks.Forwarded)
        with pytest.raises(Refusal, match="unknown"):
            ring.ask(1, gradient, tasks.Differentiated)

    def test_an_earlier_attempt_is_stale(self, ring, manifest):
        task = forward_task(ring, place=Place(0, 2, 1))
        ring.ask(1, task, tasks.Forwarded)
        for late in (Place(0, 1, 1), Place(0, 0, 2)):
            with pytest.raises(Refusal, match="stale"):
                ring.ask(1, replace(task, place=late), tasks.Forwarded)
            with pytest.raises(Refusal, match="stale"):
                gradient = tasks.InputGradient(step=0, place=late, gradients=b"")
                ring.ask(1, gradient, tasks.Differentiated)

    def test_a_dropped_attempt_does_not_come_back(self, ring, manifest):
        task = forward_task(ring)
        ring.ask(1, task, tasks.Forwarded)
        drop = tasks.Drop(step=0, place=task.place)
        assert ring.ask(1, drop, tasks.Dropped).bytes_in_flight == 0
        with pytest.raises(Refusal, match="duplicate"):
            ring.ask(1, task, tasks.Forwarded)
        ring.ask(1, replace(task, place=Place(0, 1, 1)), tasks.Forwarded)

    def test_the_loss_is_computed_once(self, ring):
        activations = ring.forward(0, FIRST, ROUTE, batch=0)[-1]
        ring.score(0, FIRST, activations)
        with pytest.raises(Refusal, match="duplicate"):
            ring.score(0, FIRST, activations)

    def test_only_the_origin_embeds_and_scores(self, ring, manifest):
        with pytest.raises(Refusal, match="stage"):
            ring.ask(1, ring.injection(0, FIRST, ROUTE, 0), tasks.Forwarded)
        task = forward_task(ring)
        ring.ask(1, task, tasks.Forwarded)
        with pytest.raises(Refusal, match="stage"):
            score = tasks.Score(step=0, place=task.place, activations=task.activations)
            ring.ask(1, score, tasks.Scored)

    @pytest.mark.parametrize(
        "changes", [{"first": 4}, {"first": -1}, {"sequences": 0}, {"batch": -1}]
    )
    def test_text_outside_of_a_batch_is_refused(self, ring, changes):
        task = replace(ring.injection(0, FIRST, ROUTE, 0), **changes)
        with pytest.raises(Refusal, match="range"):
            ring.ask(0, task, tasks.Forwarded)

    def test_steps_are_counted_from_0(self, ring):
        with pytest.raises(Refusal, match="range"):
            ring.begin(-1)

    def test_before_the_first_step_nothing_is_taken(self, ring, manifest):
        task = forward_task(ring)
        ring.hosts[1].reset()
        with pytest.raises(Refusal, match="early"):
            ring.ask(1, task, tasks.Forwarded)

    def test_what_is_over_is_stale(self, ring, manifest):
        task = forward_task(ring)
        ring.end(0)
        with pytest.raises(Refusal, match="stale"):
            ring.ask(1, task, tasks.Forwarded)
        with pytest.raises(Refusal, match="stale"):
            ring.ask(1, tasks.Step(step=0), tasks.Stepped)

    def test_gradients_that_are_not_finite_are_refused(self, build_ring, ring_manifest):
        ring = build_ring(ring_manifest("fp32"), (1, 2, 1))
        with torch.no_grad():
            ring.hosts[1].model.parameters_of("block.1")[8][0, 0] = float("nan")
        with pytest.raises(Refusal, match="non-finite"):
            ring.forward(0, FIRST, ROUTE, batch=0)
        assert ring.hosts[1].bytes_in_flight == 0

    def test_the_origin_needs_text(self, manifest):
        with pytest.raises(ValueError, match="text"):
            StageHost(manifest, cut(manifest.model, (4,)), Room(1, 0), key=0)


class TestMemory:
    def test_slots_are_bounded_and_freed_by_gradients(self, build_ring, manifest):
        ring = build_ring(manifest, (1, 2, 1), slots=2)
        came = [ring.forward(0, Place(m, 0, 0), ROUTE, batch=0)[-1] for m in (0, 1)]
        with pytest.raises(Refusal, match="slots"):
            ring.forward(0, Place(2, 0, 0), ROUTE, batch=0)
        scored = ring.score(0, FIRST, came[0])
        ring.backward(0, FIRST, ROUTE, scored.gradients)
        ring.forward(0, Place(2, 0, 0), ROUTE, batch=0)

    def test_bytes_in_flight_are_what_is_kept(self, ring, manifest):
        sizes = [visit_bytes(manifest, begins, 2) for begins in (True, False, False)]
        activations = ring.forward(0, FIRST, ROUTE, batch=0)[-1]
        assert [host.bytes_in_flight for host in ring.hosts] == sizes
        scored = ring.score(0, FIRST, activations)
        head = debt_bytes(manifest.model, ["head"], 2)
        assert scored.bytes_in_flight == sizes[0] + head
        ring.backward(0, FIRST, ROUTE, scored.gradients)
        blocks = debt_bytes(manifest.model, ["block.1", "block.2"], 2)
        assert ring.hosts[1].bytes_in_flight == blocks
        ring.weigh(0, FIRST, ROUTE)
        assert [host.bytes_in_flight for host in ring.hosts] == [0, 0, 0]

    def test_debts_that_do_not_fit_are_paid_and_nothing_changes(self, batches, start, manifest):
        stages = cut(manifest.model, (1, 2, 1))
        after = []
        for share in (0.0, 0.7, 100.0):
            rings = [
                StageHost(
                    manifest,
                    {number: shards},
                    Room(3, int(share * host_size(manifest, {number: shards}).debts)),
                    key=number,
                    text=Text(batches(manifest)),
                )
                for number, shards in stages.items()
            ]
            ring = LocalRing(manifest, [{n: s} for n, s in stages.items()], batches(manifest), 3)
            ring.hosts = rings
            ring.load(start(manifest))
            ring.begin(0)
            peak = 0
            for microbatch in range(3):
                once_round(ring, Place(microbatch, 0, 0))
                peak = max(peak, ring.hosts[1].bytes_in_flight)
            limit = int(share * host_size(manifest, {1: stages[1]}).debts)
            assert peak <= limit
            ring.end(0)
            after.append(ring.shards())
        assert same(after[0], after[1]) and same(after[0], after[2])

    def test_a_step_forgets_what_never_came_back(self, ring):
        ring.forward(0, FIRST, ROUTE, batch=0)
        ended = ring.end(0)
        assert [one.forgotten for one in ended] == [1, 1, 1]
        assert [one.bytes_in_flight for one in ended] == [0, 0, 0]
        assert {stage.reason for one in ended for stage in one.stages} == {"idle"}

    def test_nothing_of_a_step_is_left_in_the_next(self, build_ring, manifest):
        disturbed, quiet = (build_ring(manifest, (1, 2, 1)) for _ in range(2))
        once_round(disturbed, FIRST)
        disturbed.begin(0)
        for ring in (disturbed, quiet):
            once_round(ring, FIRST)
            ring.end(0)
        assert same(disturbed.shards(), quiet.shards())


FEW = st.integers(0, 2)
PLACES = st.builds(Place, FEW, FEW, FEW)
PAYLOAD = bytes([1, 2, 8, 0, 24, 0, 0, 0]) + bytes(24 * 10)
"""24 rows of int8 in 8 dimensions, all zero."""
IDS = bytes([1, 8, 24, 0, 0, 0]) + bytes(24)
SOME_TASKS = st.one_of(
    st.builds(tasks.Begin, step=FEW),
    st.builds(
        tasks.Forward,
        step=FEW,
        place=PLACES,
        stages=st.just((1,)),
        sequences=st.just(2),
        ids=st.just(IDS),
        activations=st.just(PAYLOAD),
    ),
    st.builds(tasks.InputGradient, step=FEW, place=PLACES, gradients=st.just(PAYLOAD)),
    st.builds(tasks.WeightGradient, step=FEW, place=PLACES),
    st.builds(tasks.Drop, step=FEW, place=PLACES),
    st.builds(tasks.Step, step=FEW),
)


@given(st.lists(SOME_TASKS, min_size=5, max_size=25))
@settings(max_examples=12, deadline=None)
def test_whatever_comes_memory_is_bounded_and_each_microbatch_counts_once(ring_manifest, script):
    manifest = ring_manifest("int8", dim=8, mode="reparam")
    stages = {1: ("block.1",)}
    size = host_size(manifest, stages)
    host = StageHost(manifest, stages, Room(2, size.debts), key=1)
    host.do(tasks.Begin(step=0))
    promised: set[int] = set()
    for task in script:
        try:
            result = host.do(task)
        except ProtocolError as error:
            assert error.reason in {"stale", "early", "duplicate", "unknown", "slots"}
            continue
        assert result.bytes_in_flight == host.bytes_in_flight <= 2 * size.slot + size.debts
        if isinstance(result, tasks.Differentiated):
            promised.add(result.place.microbatch)
        if isinstance(result, tasks.Stepped):
            counted = result.stages[0].visits.microbatches
            assert set(counted) <= promised and len(set(counted)) == len(counted)
            assert result.stages[0].text_tokens == 24 * len(counted)
        if isinstance(result, tasks.Stepped | tasks.Begun):
            promised.clear()
