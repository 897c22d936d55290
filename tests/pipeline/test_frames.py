"""Frames between the node and the compute process, however the bytes arrive."""

import pytest

from skerry.pipeline.frames import Channel, ParentGone
from skerry.protocol.compute import (
    Evaluate,
    Failed,
    Finish,
    Settled,
    StageDone,
    StageTask,
    decode_reply,
    decode_request,
    encode_request,
    frame_length,
)
from skerry.protocol.errors import ComputeError


def test_requests_come_one_by_one_from_any_pieces(socket_pair):
    ours, theirs = socket_pair
    channel = Channel(theirs)
    frames = encode_request(Evaluate(request=1)) + encode_request(Finish(request=2))
    assert channel.poll() is None
    for byte in frames[:-1]:
        ours.send(bytes([byte]))
    assert channel.poll() == Evaluate(request=1)
    assert channel.poll() is None
    ours.send(frames[-1:])
    assert channel.receive() == Finish(request=2)


def test_replies_are_framed(socket_pair):
    ours, theirs = socket_pair
    Channel(theirs).send(Settled(request=5))
    data = ours.recv(2**16)
    assert frame_length(data[:4]) == len(data) - 4
    assert decode_reply(data[4:]) == Settled(request=5)


def test_the_bytes_of_a_task_come_as_they_are(socket_pair):
    ours, theirs = socket_pair
    task = StageTask(request=3, frame=bytes(range(256)) * 5)
    ours.sendall(encode_request(task) + encode_request(Finish(request=2)))
    channel = Channel(theirs)
    assert (channel.receive(), channel.receive()) == (task, Finish(request=2))
    channel.send(StageDone(request=3, frame=b"{}"))
    assert decode_reply(ours.recv(2**16)[4:]) == StageDone(request=3, frame=b"{}")


@pytest.mark.parametrize("cut", [0, 3, 4, 20])
def test_a_frame_whose_parts_do_not_add_up_is_no_message(cut):
    body = encode_request(Finish(request=2))[4:]
    for wrong in (body[:cut], body + b"x"):
        with pytest.raises(ValueError):
            decode_request(wrong)


def test_what_is_no_request_is_answered_and_skipped(socket_pair):
    ours, theirs = socket_pair
    ours.sendall(b"\0\0\0\3abc" + encode_request(Evaluate(request=1)))
    assert Channel(theirs).receive() == Evaluate(request=1)
    failed = decode_reply(ours.recv(2**16)[4:])
    assert isinstance(failed, Failed)
    assert (failed.request, failed.code) == (0, "SK-CMP-002")


def test_a_frame_beyond_the_limit_ends_the_conversation(socket_pair):
    ours, theirs = socket_pair
    ours.sendall(b"\xff\xff\xff\xff")
    with pytest.raises(ComputeError, match="limit"):
        Channel(theirs).receive()


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x09{"])
@pytest.mark.parametrize("method", ["poll", "receive"])
def test_the_other_end_closed_means_the_end(socket_pair, method, sent):
    ours, theirs = socket_pair
    ours.sendall(sent)
    ours.close()
    with pytest.raises(ParentGone) as gone:
        getattr(Channel(theirs), method)()
    assert gone.value.code == 0
    with pytest.raises(ParentGone):
        Channel(theirs).send(Settled(request=1))
