import contextlib

import pytest
import ring_strategies as own
from hypothesis import given
from hypothesis import strategies as st
from ring_world import RUN, plan_of

from skerry.protocol.errors import ProtocolError
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings.codec import (
    MAX_HEAD_BYTES,
    MAX_PLAN_BYTES,
    decode_frame,
    decode_plan,
    encode_frame,
    encode_plan,
)
from skerry.protocol.rings.plan import MAX_ACCOUNTS, MAX_MICROBATCHES, Plan

FENCE = fr.Fence(RUN, 1, 0, 2, 3)


@given(own.frames, st.integers(0, 2**32 - 1))
def test_frames_come_back_as_they_were(frame, size):
    data = encode_frame(frame, size)
    assert decode_frame(data) == (frame, size)
    assert encode_frame(frame, size) == data


@given(own.plans)
def test_plans_come_back_as_they_were(plan: Plan):
    data = encode_plan(plan)
    assert decode_plan(data) == plan
    assert encode_plan(plan) == data


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_a_refusal(data):
    try:
        decode_frame(data)
    except ProtocolError as error:
        assert error.reason in {"malformed", "kind", "range", "size"}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_plan_or_a_refusal(data):
    with pytest.raises(ProtocolError):
        decode_plan(data)


@given(own.frames, st.data())
def test_a_damaged_frame_never_breaks_the_reader(frame, data):
    whole = bytearray(encode_frame(frame, 7))
    where = data.draw(st.integers(0, len(whole) - 1))
    whole[where] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        decode_frame(bytes(whole))


def test_a_plan_that_cannot_be_followed_is_refused_when_read():
    broken = Plan(1, 0, plan_of(2).stages, plan_of(2).rings)
    with pytest.raises(ProtocolError, match="cannot be followed"):
        decode_plan(encode_plan(broken))


@pytest.mark.parametrize("decode", [decode_frame, decode_plan])
def test_what_is_too_long_is_not_even_read(decode):
    with pytest.raises(ProtocolError, match="limit") as caught:
        decode(bytes(max(MAX_HEAD_BYTES, MAX_PLAN_BYTES) + 1))
    assert caught.value.reason == "size"


@pytest.mark.parametrize(
    "frame",
    [
        fr.Frame(FENCE, fr.Place(MAX_MICROBATCHES, 1, 1), fr.Grant()),
        fr.Frame(FENCE, fr.Place(0, 1, 129), fr.Grant()),
    ],
)
def test_numbers_out_of_range_are_refused(frame):
    with pytest.raises(ProtocolError) as caught:
        decode_frame(encode_frame(frame, 0))
    assert caught.value.reason == "range"


def test_the_longest_account_of_a_step_fits_into_a_frame():
    stages = MAX_ACCOUNTS // MAX_MICROBATCHES
    numbers = tuple(range(MAX_MICROBATCHES))
    visits = tuple(fr.StageVisits(stage, 2**40, numbers) for stage in range(stages + 2))
    frame = fr.Frame(FENCE, fr.Place(), fr.StepEnd(visits))
    assert decode_frame(encode_frame(frame, 0))[0] == frame
