"""Computations of a ring as tasks of a host of stages, which writes down what it is asked."""

import asyncio

import pytest

from skerry.node.ring.stage_engine import StageEngine, StagesStepped
from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.frames import decode_task, encode
from skerry.pipeline.stages.sizes import payload_bytes, text_bytes
from skerry.protocol.compute import Open, Opened, Reply, Settled, StageDone, StageTask
from skerry.protocol.errors import ComputeError, InputFault, ProtocolError
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.manifest import (
    InnerSection,
    Manifest,
    ModelSection,
    RingSection,
    SubspaceSection,
)
from skerry.protocol.rings.frames import Place, StageVisits
from skerry.protocol.rings.plan import EMBEDDING, HEAD
from skerry.protocol.rings.tasks import DropGradients, Kind, TakeStep, Task

MANIFEST = Manifest(
    owner=PeerId("12D3KooWowner"),
    model=ModelSection(context=10, d_model=32, subspace=SubspaceSection(dim=8)),
    inner=InnerSection(steps=5, batch_size=5),
    ring=RingSection(microbatch=2),
)
PARENT = CommitHash("0" * 64)
FIRST, SECOND = (3, 1), (3, 2)
IDS, ROWS = text_bytes(MANIFEST, 2), payload_bytes(MANIFEST, 2)


class Host:
    """The compute process's end: answers as a host of stages would, without computing."""

    def __init__(self) -> None:
        self.asked: list[tasks.Task] = []
        self.opened: list[Open] = []
        self.refuses = ""
        self.steps: tuple[tasks.StageStep, ...] = ()

    async def ask(self, build) -> Reply:
        request = build(7)
        if isinstance(request, Open):
            self.opened.append(request)
            return Opened(request=7)
        assert isinstance(request, StageTask)
        self.asked.append(decode_task(request.frame))
        return StageDone(request=7, frame=encode(self.result(self.asked[-1])))

    def result(self, task: tasks.Task) -> tasks.Result:
        if self.refuses and not isinstance(task, tasks.Begin):
            return tasks.Refused(
                reason=self.refuses,
                code="SK-PRO-004",
                detail="no",
                of_input=self.refuses == "outlier",
                bytes_in_flight=0,
            )
        match task:
            case tasks.Begin(step=step):
                return tasks.Begun(step=step, validation_windows=9, bytes_in_flight=0)
            case tasks.Inject(place=place) | tasks.Forward(place=place):
                return tasks.Forwarded(
                    place=place, ids=b"i" * IDS, activations=b"a" * ROWS, bytes_in_flight=0
                )
            case tasks.Score(place=place):
                return tasks.Scored(
                    place=place, loss=50.0, text_tokens=20, gradients=b"g", bytes_in_flight=0
                )
            case tasks.Measure(place=place):
                return tasks.Measured(place=place, loss=60.0, text_tokens=20, bytes_in_flight=0)
            case tasks.InputGradient(place=place):
                return tasks.Differentiated(place=place, gradients=b"d", bytes_in_flight=0)
            case tasks.WeightGradient(place=place):
                return tasks.Weighed(place=place, bytes_in_flight=0)
            case tasks.Drop(place=place):
                return tasks.Dropped(place=place, bytes_in_flight=0)
            case tasks.Step(step=step):
                return tasks.Stepped(step=step, stages=self.steps, forgotten=0, bytes_in_flight=0)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def told() -> list[StagesStepped]:
    return []


@pytest.fixture
async def engine(host, told) -> StageEngine:
    engine = StageEngine(MANIFEST, (0, 2), host.ask, told.append)
    await engine.begin_round(3, PARENT)
    return engine


def task(kind: Kind, hop: int, payload: bytes = b"", at=FIRST, tokens: int = 20) -> Task:
    return Task(kind, at, Place(1, 4, hop), (2,), (), tokens, payload)


HOME, HOP = tasks.Place(1, 4, 0), tasks.Place(1, 4, 3)


async def test_an_origin_injects_from_the_batch_it_was_told(engine, host):
    engine.expect(FIRST, 42)
    output = await engine.compute(task(Kind.FORWARD, 0))
    assert output.payload == b"i" * IDS + b"a" * ROWS
    number = 3 * 5 + 0
    assert host.asked == [
        tasks.Begin(step=number),
        tasks.Inject(step=number, place=HOME, stages=(2,), batch=42, first=2, sequences=2),
    ]
    assert host.opened == [Open(request=7, round=3, parent=PARENT)]


async def test_a_double_has_the_text_of_its_original(engine, host):
    engine.expect(FIRST, 42, doubled=1)
    last = -(-engine._manifest.inner.batch_size // 2)
    for number in (0, last):
        await engine.compute(Task(Kind.FORWARD, FIRST, Place(number, 1, 0), (2,), (), 20))
    assert [(one.batch, one.first) for one in host.asked[1:]] == [(42, 0), (42, 2)]


async def test_a_member_is_given_ids_and_activations_apart(engine, host):
    payload = b"x" * IDS + b"y" * ROWS
    await engine.compute(task(Kind.FORWARD, 3, payload, SECOND))
    assert host.asked[1:] == [
        tasks.Forward(
            step=16,
            place=HOP,
            stages=(2,),
            sequences=2,
            ids=b"x" * IDS,
            activations=b"y" * ROWS,
        )
    ]


@pytest.mark.parametrize(
    ("size", "tokens", "reason"),
    [(-1, 20, "shape"), (1, 20, "shape"), (0, 10, "shape"), (0, 15, "range"), (0, 30, "range")],
)
async def test_a_payload_of_the_wrong_shape_is_named(engine, size, tokens, reason):
    with pytest.raises(ProtocolError) as error:
        await engine.compute(task(Kind.FORWARD, 3, bytes(IDS + ROWS + size), tokens=tokens))
    assert error.value.reason == reason


async def test_losses_are_per_text_token_and_of_the_visit_that_began(engine, host):
    payload = b"x" * IDS + b"y" * ROWS
    scored = await engine.compute(task(Kind.LOSS, 4, payload))
    assert (scored.payload, scored.loss) == (b"g", 2.5)
    assert host.asked[-1] == tasks.Score(step=15, place=HOME, activations=b"y" * ROWS)


async def test_step_zero_measures_validation_text(engine, host):
    at = (3, 0)
    assert await engine.validation_windows(at) == 9
    await engine.compute(task(Kind.FORWARD, 0, at=at))
    measured = await engine.compute(task(Kind.MEASURE, 4, b"x" * IDS + b"y" * ROWS, at))
    assert (measured.payload, measured.loss) == (b"", 3.0)
    assert host.asked == [
        tasks.Begin(step=14),
        tasks.Inject(step=14, place=HOME, stages=(2,), batch=None, first=2, sequences=2),
        tasks.Measure(step=14, place=HOME, activations=b"y" * ROWS),
    ]


async def test_the_first_hop_passes_no_gradient_on_but_needs_it(engine, host):
    sent = await engine.compute(task(Kind.INPUT_GRADIENT, 3, b"g"))
    assert sent.payload == b"d"
    await engine.compute(task(Kind.WEIGHT_GRADIENT, 3))
    await engine.compute(task(Kind.WEIGHT_GRADIENT, 0, b"e"))
    assert host.asked[1:] == [
        tasks.InputGradient(step=15, place=HOP, gradients=b"g"),
        tasks.WeightGradient(step=15, place=HOP),
        tasks.InputGradient(step=15, place=HOME, gradients=b"e"),
        tasks.WeightGradient(step=15, place=HOME),
    ]


async def test_a_step_insists_on_what_every_hosted_stage_is_made_of(engine, host, told):
    host.steps = (
        tasks.StageStep(tasks.StageVisits(0, (0, 1, 2)), 60, 1.0, ""),
        tasks.StageStep(tasks.StageVisits(2, ()), 0, 0.0, "idle"),
    )
    visits = (
        StageVisits(0, 40, (0, 2)),
        StageVisits(EMBEDDING, 20, (1,)),
        StageVisits(HEAD, 60, (0, 1, 2)),
    )
    await engine.compute(TakeStep(FIRST, visits))
    expected = (tasks.StageVisits(0, (0, 1, 2)), tasks.StageVisits(2, ()))
    assert host.asked == [tasks.Begin(step=15), tasks.Step(step=15, expected=expected)]
    assert told == [StagesStepped(3, 0, {0: 60}, "")]
    await engine.compute(task(Kind.WEIGHT_GRADIENT, 3, at=SECOND))
    assert len(host.asked) == 3, "the host goes on to the next step by itself"


@pytest.mark.parametrize("reason", ["visits", "non-finite"])
async def test_a_step_that_was_not_taken_says_so(engine, host, told, reason):
    host.steps = (tasks.StageStep(tasks.StageVisits(0, ()), 0, 0.0, reason),)
    with pytest.raises(ProtocolError) as error:
        await engine.compute(TakeStep(FIRST, (StageVisits(0, 20, (0,)),)))
    assert error.value.reason == reason
    assert told == [StagesStepped(3, 0, {}, reason)]


async def test_dropped_gradients_are_left_behind(engine, host, told):
    await engine.compute(DropGradients(FIRST))
    assert host.asked == [tasks.Begin(step=15), tasks.Begin(step=16)]
    assert told == [StagesStepped(3, 0, {}, "dropped")]


async def test_a_round_that_has_not_begun_here_is_waited_for(engine, host):
    waiting = asyncio.create_task(engine.compute(task(Kind.WEIGHT_GRADIENT, 3, at=(4, 1))))
    await asyncio.sleep(0)
    engine.end_round()
    await asyncio.sleep(0)
    assert not host.asked
    await engine.begin_round(4, PARENT)
    await waiting
    assert host.asked == [tasks.Begin(step=20), tasks.WeightGradient(step=20, place=HOP)]


async def test_what_comes_after_a_round_s_end_is_refused(engine, host):
    engine.end_round()
    for at in ((2, 1), FIRST):
        with pytest.raises(ProtocolError) as error:
            await engine.compute(task(Kind.WEIGHT_GRADIENT, 3, at=at))
        assert error.value.reason == "round-over"
    await engine.forget(FIRST, Place(1, 4, 3))
    assert not host.asked


async def test_only_visits_of_the_present_step_are_dropped(engine, host):
    await engine.compute(task(Kind.WEIGHT_GRADIENT, 3, at=SECOND))
    await engine.forget(FIRST, Place(1, 4, 3))
    await engine.forget(SECOND, Place(1, 4, 3))
    assert host.asked[2:] == [tasks.Drop(step=16, place=HOP)]


async def test_a_refusal_keeps_its_name(engine, host):
    host.refuses = "slots"
    with pytest.raises(ProtocolError) as error:
        await engine.compute(task(Kind.WEIGHT_GRADIENT, 3))
    assert error.value.reason == "slots"
    assert not isinstance(error.value, InputFault)


async def test_a_refusal_of_what_a_neighbour_sent_says_so(engine, host):
    host.refuses = "outlier"
    with pytest.raises(InputFault) as error:
        await engine.compute(task(Kind.WEIGHT_GRADIENT, 3))
    assert error.value.reason == "outlier"


async def test_an_answer_that_does_not_fit_is_an_error_of_the_compute_process(
    engine, host, monkeypatch
):
    async def settled(build) -> Reply:
        return Settled(request=7)

    monkeypatch.setattr(engine, "_ask", settled)
    with pytest.raises(ComputeError, match="settled"):
        await engine.compute(task(Kind.WEIGHT_GRADIENT, 3))
