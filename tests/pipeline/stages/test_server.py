"""Frames in, frames out: refusals are answers too."""

import logging

import pytest

from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.frames import decode_result, encode
from skerry.pipeline.stages.host import Room, StageHost
from skerry.pipeline.stages.server import answer


@pytest.fixture
def host(ring_manifest) -> StageHost:
    return StageHost(ring_manifest("int8"), {1: ("block.1",)}, Room(1, 0), key=0)


def test_a_task_is_answered(host):
    result = decode_result(answer(host, encode(tasks.Begin(step=3))))
    assert result == tasks.Begun(step=3, bytes_in_flight=0)


def test_a_refusal_names_its_reason_and_the_host_goes_on(host, caplog):
    with caplog.at_level(logging.WARNING):
        refused = decode_result(answer(host, encode(tasks.Step(step=3))))
    assert isinstance(refused, tasks.Refused)
    assert (refused.reason, refused.code) == ("early", "SK-PRO-004")
    assert "early" in caplog.text
    assert isinstance(decode_result(answer(host, encode(tasks.Begin(step=3)))), tasks.Begun)


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\0\2{}", encode(tasks.Begun(step=1, bytes_in_flight=0))]
)
def test_what_is_not_a_task_is_malformed(host, body):
    refused = decode_result(answer(host, body))
    assert isinstance(refused, tasks.Refused)
    assert refused.reason == "malformed"
