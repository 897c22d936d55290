"""The compute process as the node sees it: a real process at the other end of a socket pair."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from skerry.pipeline.frames import Channel
from skerry.pipeline.worker import Reporter, attempt, run
from skerry.protocol.compute import (
    Applied,
    Apply,
    Begin,
    Contribution,
    Encode,
    Encoded,
    Evaluate,
    Evaluated,
    Export,
    Exported,
    Failed,
    Finish,
    Hello,
    Progress,
    Ready,
    Reply,
    Request,
    Sample,
    Sampled,
    Settle,
    Settled,
    Stop,
    Train,
    Trained,
    Validate,
    Validated,
    Verdict,
    decode_reply,
    encode_request,
    frame_length,
)
from skerry.protocol.errors import StateError
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.launch import Launch
from skerry.protocol.manifest import DataSection, Manifest, ModelSection

PATIENCE_S = 240.0
ME = PeerId("12D3KooWme")
GENESIS = CommitHash("0" * 64)


class Node:
    """The node's end of one compute process."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process, self.connection = process, connection
        self._file = connection.makefile("rb")

    def send(self, *requests: Request) -> None:
        self.connection.sendall(b"".join(encode_request(request) for request in requests))

    def receive(self) -> Reply:
        return decode_reply(self._file.read(frame_length(self._file.read(4))))

    def ask(self, request: Request) -> Reply:
        """Send and return the reply, leaving out Progress."""
        self.send(request)
        while isinstance(reply := self.receive(), Progress):
            pass
        return reply

    def close(self) -> None:
        self._file.close()
        self.connection.close()

    def ended(self) -> bytes:
        """Wait for the process's end; return what is left on the socket."""
        self.process.wait(PATIENCE_S)
        return self._file.read()


@contextmanager
def launched(manifest: Manifest, folder: Path) -> Iterator[Node]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)
    command = [sys.executable, "-m", "skerry.pipeline.worker", launch_json(manifest, folder)]
    with theirs, (folder / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=stderr
        )
    node = Node(process, ours)
    try:
        yield node
    finally:
        node.close()
        process.kill()
        process.wait(PATIENCE_S)


def launch_json(manifest: Manifest, folder: Path) -> str:
    return Launch(
        manifest=manifest.canonical().decode(),
        store=str(folder / "blobs"),
        folder=str(folder / "run"),
        author=ME,
        threads=1,
    ).to_json()


def training(request: int, steps: int) -> Train:
    return Train(
        request=request, round=0, parent=GENESIS, cursor=0, slot=0, num_slots=1, steps=steps
    )


def test_a_round_from_hello_to_stop(manifest, tmp_path):
    with launched(manifest, tmp_path) as node:
        hello = node.receive()
        assert isinstance(hello, Hello)
        assert hello.ledger == ()
        node.connection.sendall(b"\0\0\0\2{}")
        assert isinstance(refused := node.receive(), Failed)
        assert (refused.request, refused.code) == (0, "SK-CMP-002")
        assert node.ask(Evaluate(request=1)) == Failed(
            request=1, code="SK-CMP-002", detail="there are no parameters yet: Begin comes first"
        )
        ready = node.ask(Begin(request=2, shards=None))
        assert isinstance(ready, Ready)
        before = node.ask(Evaluate(request=3))

        node.send(training(4, steps=4))
        replies = [node.receive()]
        while not isinstance(replies[-1], Trained):
            replies.append(node.receive())
        *progress, trained = replies
        assert all(isinstance(one, Progress) and one.request == 4 for one in progress)
        assert progress[-1].step == trained.steps == 4, "the last Progress is always sent"

        encoded = node.ask(Encode(request=5, parent=GENESIS, send=True))
        assert isinstance(encoded, Encoded)
        assert encoded.round_tokens == encoded.text_tokens == trained.round_tokens
        verdict = node.ask(Validate(request=6, author=ME, shards=encoded.shards))
        assert verdict == Validated(request=6, author=ME, reason="")
        mine = Contribution(ME, encoded.round_tokens, encoded.shards)
        applied = node.ask(Apply(request=7, round=0, contributions=(mine,)))
        assert isinstance(applied, Applied)
        assert applied.judgements == ()
        assert applied.digest != ready.digest
        settled = node.ask(Settle(request=8, verdicts=(Verdict(GENESIS, True),)))
        assert settled == Settled(request=8)
        after = node.ask(Evaluate(request=9))
        assert isinstance(before, Evaluated) and isinstance(after, Evaluated)
        assert after.loss < before.loss
        sampled = node.ask(
            Sample(request=10, prompt="ferry", text_tokens=3, temperature=1.0, seed=1)
        )
        assert isinstance(sampled, Sampled)
        assert sampled.text.startswith("ferry")
        target = str(tmp_path / "export")
        exported = node.ask(Export(request=11, directory=target))
        assert exported == Exported(request=11, directory=target, digest=applied.digest)
        node.send(Stop())
        assert node.ended() == b""
        assert node.process.returncode == 0


def test_what_may_interrupt_training_and_what_waits(manifest, tmp_path):
    with launched(manifest, tmp_path) as node:
        node.receive()
        node.ask(Begin(request=1, shards=None))
        node.send(training(2, steps=10_000), Evaluate(request=3))
        assert isinstance(node.receive(), Progress)
        node.send(Validate(request=4, author=ME, shards=()), Finish(request=999))
        replies = [node.receive()]
        while isinstance(replies[-1], Progress):
            replies.append(node.receive())
        assert replies[-1] == Validated(request=4, author=ME, reason="shards")
        assert isinstance(node.receive(), Progress), "Finish of another request ends nothing"
        node.send(Finish(request=2), Finish(request=2))
        while isinstance(trained := node.receive(), Progress):
            pass
        assert isinstance(trained, Trained)
        assert 0 < trained.steps < 10_000
        assert isinstance(node.receive(), Evaluated), "asked during training, answered after it"

        assert isinstance(node.ask(Encode(request=5, parent=GENESIS, send=False)), Encoded)
        node.send(training(6, steps=10_000))
        assert isinstance(node.receive(), Progress)
        node.send(Stop())
        node.ended()
        assert node.process.returncode == 0


def test_killed_and_started_again_it_offers_the_same_contribution(manifest, tmp_path):
    with launched(manifest, tmp_path) as node:
        node.receive()
        ready = node.ask(Begin(request=1, shards=None))
        node.ask(training(2, steps=4))
        first = node.ask(Encode(request=3, parent=GENESIS, send=True))
        node.send(Begin(request=4, shards=None), training(5, steps=10_000))
        assert isinstance(node.receive(), Ready)
        assert isinstance(node.receive(), Progress)
        node.process.kill()
        node.process.wait(PATIENCE_S)
    assert isinstance(first, Encoded) and isinstance(ready, Ready)
    with launched(manifest, tmp_path) as node:
        hello = node.receive()
        assert isinstance(hello, Hello)
        assert [(one.parent, one.round) for one in hello.ledger] == [(GENESIS, 0)]
        again = node.ask(Begin(request=1, shards=ready.shards))
        assert isinstance(again, Ready)
        assert again.digest == ready.digest
        assert again.is_restored, "it goes on with its moments"
        node.ask(training(2, steps=2))
        assert node.ask(Encode(request=3, parent=GENESIS, send=True)) == first
        os.kill(node.process.pid, signal.SIGINT)  # the daemon decides, not the terminal
        assert isinstance(node.ask(Settle(request=4, verdicts=())), Settled)
        node.process.terminate()
        node.ended()
        assert node.process.returncode == -signal.SIGTERM


def test_it_ends_quietly_when_the_node_closes_its_end(manifest, tmp_path):
    with launched(manifest, tmp_path) as node:
        node.receive()
        node.ask(Begin(request=1, shards=None))
        node.send(training(2, steps=10_000))
        assert isinstance(node.receive(), Progress)
        node.connection.shutdown(socket.SHUT_RDWR)
        node.process.wait(PATIENCE_S)
        assert node.process.returncode == 0
        assert (tmp_path / "stderr").read_bytes() == b""


PARENT = """
import socket, subprocess, sys
ours, theirs = socket.socketpair()
fd = theirs.fileno()
command = [sys.executable, "-m", "skerry.pipeline.worker", sys.argv[1], str(fd)]
# It also inherits our end, so that the socket stays open when we die.
process = subprocess.Popen(command, pass_fds=[fd, ours.fileno()])
ours.recv(1)
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_no_orphan_is_left_when_the_node_is_killed(manifest, tmp_path):
    command = [sys.executable, "-c", PARENT, launch_json(manifest, tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        worker = psutil.Process(int(node.stdout.readline()))
        node.kill()
        # The pipe ends when nobody holds it any more; the worker inherited it.
        ended, _, _ = select.select([node.stdout], [], [], PATIENCE_S)
        if not ended:
            worker.kill()
        assert ended
        assert node.stdout.read() == b""


def test_a_model_too_large_is_refused_before_it_is_allocated(manifest, tmp_path):
    model = ModelSection(layers=512, d_model=65536, heads=64)
    with launched(manifest.model_copy(update={"model": model}), tmp_path) as node:
        failed = node.receive()
        assert isinstance(failed, Failed)
        assert (failed.request, failed.code) == (0, "SK-MEM-001")
        assert node.ended() == b""
        assert node.process.returncode == 7


def test_too_little_text_is_refused_with_its_code(manifest, tmp_path, socket_pair, monkeypatch):
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)
    data = DataSection(source="text", path=str(tmp_path / "nowhere"))
    launch = launch_json(manifest.model_copy(update={"data": data}), tmp_path)
    ours, theirs = socket_pair
    assert run(Launch.from_json(launch), Channel(theirs)) == 2
    failed = decode_reply(ours.recv(2**16)[4:])
    assert isinstance(failed, Failed)
    assert (failed.request, failed.code) == (0, "SK-DAT-001")


def test_what_goes_wrong_is_answered_with_its_code(caplog):
    def fail(error: Exception) -> Reply:
        def action() -> Reply:
            raise error

        return attempt(3, action)

    full = OSError(28, "No space left on device", "blob")
    assert fail(full) == Failed(request=3, code="SK-DSK-001", detail="no space left for blob")
    known = StateError("SK-DSK-002", "damaged")
    assert fail(known) == Failed(request=3, code="SK-DSK-002", detail="damaged")
    assert "Traceback" not in caplog.text
    unknown = fail(ZeroDivisionError("by zero"))
    assert unknown == Failed(request=3, code="SK-CMP-002", detail="ZeroDivisionError: by zero")
    assert "Traceback" in caplog.text


def test_progress_is_throttled_but_the_last_is_sent(monkeypatch):
    now = iter([0.0, 0.0, 0.05, 0.09, 0.0])
    monkeypatch.setattr("skerry.pipeline.worker.time.monotonic", lambda: next(now))

    sent: list[int] = []

    class Recorder:
        def send(self, reply: Progress) -> None:
            sent.append(reply.step)

    progress = Progress(request=1, step=1, steps=3, loss=0.0, tokens_per_second=1.0)
    reporter = Reporter(Recorder())
    for step in (1, 2, 3):
        reporter.report(replace(progress, step=step))
    assert sent == [1]
    reporter.flush()
    assert sent == [1, 3]
