"""A daemon that only pretends: the control API with canned answers, in this or its own process.

As a program: ``fake_daemon.py HOME [serve | fail LINE | silent]``.
"""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

from skerry.node.home import Home
from skerry.proto import control_pb2 as pb
from skerry.proto.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server

PEER = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"
OTHER = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"
RUN_ID = "ab" * 32
INVITE = "0123456789abcdef" * 2


class FakeControl(ControlServicer):
    """Answers from attributes that a test sets, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = pb.StatusReply(peer_id=PEER, version="0.1.0", pid=os.getpid(), home="/home/x")
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self.refuses: type = object  # which requests
        self.asked: list[object] = []
        self.lines = ['{"time": 0, "event": "started"}']
        self.hang = threading.Event()
        self.hang.set()
        self.ended = threading.Event()
        self.paused = False

    def in_run(self, **fields: object) -> pb.RunStatus:
        """Put the daemon into a run."""
        self.status.run.CopyFrom(pb.RunStatus(run_id=RUN_ID, name="first", **fields))
        return self.status.run

    def Status(self, request, context):
        self.hang.wait()
        return self._answer(request, context, self.status)

    def Init(self, request, context):
        reply = pb.RunReply(run_id=RUN_ID, name="first", token="skerry1TOKEN")
        return self._answer(request, context, reply)

    def Join(self, request, context):
        return self._answer(request, context, pb.RunReply(run_id=RUN_ID, name="first"))

    def Leave(self, request, context):
        return self._answer(request, context, pb.Empty())

    def Pause(self, request, context):
        self.paused = True
        return self._answer(request, context, pb.Empty())

    def Resume(self, request, context):
        self.paused = False
        return self._answer(request, context, pb.Empty())

    def Order(self, request, context):
        if request.HasField("revoke"):
            reply = pb.OrderReply(sequence=3, invite=request.revoke.invite)
        else:
            reply = pb.OrderReply(sequence=3, peer=PEER)
        return self._answer(request, context, reply)

    def Invite(self, request, context):
        reply = pb.RunReply(run_id="ab" * 32, name="first", token="skerry1FRESH")
        return self._answer(request, context, reply)

    def Stop(self, request, context):
        self.ended.set()
        return self._answer(request, context, pb.Empty())

    def Export(self, request, context):
        reply = pb.ExportReply(directory=request.directory, state_digest="cd" * 32)
        return self._answer(request, context, reply)

    def Sample(self, request, context):
        return self._answer(request, context, pb.SampleReply(text=request.prompt + "!"))

    def Logs(self, request, context):
        self._answer(request, context, None)
        for line in self.lines[-request.last :]:
            yield pb.LogLine(json=line)

    def _answer(self, request, context, reply):
        self.asked.append(request)
        if self.refusal is not None and isinstance(request, self.refuses):
            context.abort(*self.refusal)
        return reply


@contextmanager
def serving(home: Home, control: FakeControl) -> Iterator[None]:
    """Hold the home and answer on its socket, as a daemon does."""
    with home.lock():
        home.control_socket.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(max_workers=4))
        add_ControlServicer_to_server(control, server)
        server.add_insecure_port(f"unix:{home.control_socket}")
        server.start()
        try:
            yield
        finally:
            control.hang.set()
            server.stop(None).wait()


def main(home: Home, behaviour: str = "serve", *line: str) -> int:
    if behaviour == "fail":
        print("INFO starting", *line, sep="\n", file=sys.stderr)
        return 4
    if behaviour == "silent":
        threading.Event().wait()
    control = FakeControl()
    with serving(home, control):
        control.ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(Home(Path(sys.argv[1])), *sys.argv[2:]))
