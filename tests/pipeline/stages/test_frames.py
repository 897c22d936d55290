"""Tasks and results survive their frames, and anything else is a ValueError."""

import json
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.frames import decode_result, decode_task, encode

NUMBERS = st.integers(0, 2**40)
PLACES = st.builds(tasks.Place, NUMBERS, NUMBERS, NUMBERS)
STAGES = st.lists(NUMBERS, max_size=4).map(tuple)
FIELDS = {
    int: NUMBERS,
    int | None: st.none() | NUMBERS,
    float: st.floats(allow_nan=False),
    bytes: st.binary(max_size=40),
    str: st.text(max_size=20),
    tasks.Place: PLACES,
    tuple[int, ...]: STAGES,
}


def messages(kinds) -> st.SearchStrategy:
    some = []
    for kind in kinds:
        hints = {k: v for k, v in kind.__annotations__.items() if k != "kind"}
        given_fields = {k: FIELDS[v] for k, v in hints.items() if v in FIELDS}
        if kind is tasks.Step:
            visits = st.builds(tasks.StageVisits, stage=NUMBERS, microbatches=STAGES)
            given_fields["expected"] = st.lists(visits, max_size=3).map(tuple)
        if kind is tasks.Stepped:
            visits = st.builds(tasks.StageVisits, stage=NUMBERS, microbatches=STAGES)
            stage = st.builds(
                tasks.StageStep,
                visits=visits,
                text_tokens=NUMBERS,
                norm=FIELDS[float],
                reason=FIELDS[str],
            )
            given_fields["stages"] = st.lists(stage, max_size=3).map(tuple)
        some.append(st.builds(kind, **given_fields))
    return st.one_of(some)


TASKS = messages(tasks.Task.__args__)
RESULTS = messages(tasks.Result.__args__)


@given(TASKS)
@settings(max_examples=100, deadline=None)
def test_tasks_come_back(task):
    assert decode_task(encode(task)) == task


@given(RESULTS)
@settings(max_examples=100, deadline=None)
def test_results_come_back(result):
    assert decode_result(encode(result)) == result


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_refused(body):
    for decode in (decode_task, decode_result):
        with pytest.raises(ValueError):
            decode(body)


@given(TASKS, st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_frame_is_refused_or_another_task(task, data):
    body = bytearray(encode(task))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError):
        decode_task(bytes(body))


def test_a_frame_cut_short_or_with_more_behind_is_refused():
    body = encode(tasks.Score(step=1, place=tasks.Place(0, 0, 0), activations=b"12345"))
    for wrong in (body[:-1], body + b"6", body[:3], b""):
        with pytest.raises(ValueError):
            decode_task(wrong)


@pytest.mark.parametrize(
    "head",
    [
        [1],
        {"kind": "begin", "step": 1},
        {"kind": "begin", "step": 1, "buffers": {"step": 0}},
        {"kind": "begin", "step": 1, "buffers": {"x": -1}},
        {"kind": "begin", "step": 1, "buffers": {"x": True}},
        {"kind": "begin", "step": 1, "buffers": {"x": 10**9}},
        {"kind": "nothing", "buffers": {}},
    ],
)
def test_heads_that_encode_never_writes_are_refused(head):
    text = json.dumps(head).encode()
    with pytest.raises(ValueError):
        decode_task(len(text).to_bytes(4, "big") + text)


def test_nesting_is_bounded():
    text = b"[" * 200_000
    with pytest.raises(ValueError):
        decode_task(len(text).to_bytes(4, "big") + text)


def test_the_node_needs_no_torch_for_this():
    code = (
        "import sys; import skerry.pipeline.stages.frames, skerry.pipeline.stages.sizes; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
