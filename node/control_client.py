"""How the command line asks the local daemon: gRPC over its unix socket, errors translated.

The daemon reports an error of the catalog as status FAILED_PRECONDITION with the details
"SK-XXX-NNN: what happened"; here it becomes the same exception again.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from skerry.proto import control_pb2 as pb
from skerry.proto.control_pb2_grpc import ControlStub
from skerry.protocol.errors import DaemonError, SkerryError, from_code

STATUS_SECONDS = 5.0
COMMAND_SECONDS = 360.0
"""A run's start waits for the compute process, a join for the bootstrap peers: the daemon gives up
first, or it would be in a run of which the command said that it had failed."""
STOP_SECONDS = 60.0
"""The answer comes before the end, and waits for nothing."""
EXPORT_SECONDS = 900.0
_CODED = re.compile(r"(SK-[A-Z]+-[0-9]{3}): (.*)", re.DOTALL)
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class ControlClient:
    """One connection to a daemon; every method raises SkerryError and nothing else.

    DaemonError("SK-DMN-001") means that no daemon answers.
    """

    def __init__(self, socket_path: Path) -> None:
        """Prepare for the daemon behind ``socket_path``; nothing is sent yet."""
        self._socket = socket_path
        self._channel = grpc.insecure_channel(
            f"unix:{socket_path}", options=[("grpc.enable_http_proxy", 0)]
        )
        self._stub = ControlStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        """Use as a context manager to close the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self, deadline: float = STATUS_SECONDS) -> pb.StatusReply:
        """Return what the daemon is doing; ``deadline`` in seconds."""
        with self._translated():
            reply: pb.StatusReply = self._stub.Status(pb.Empty(), timeout=deadline)
            return reply

    def init(self, manifest_toml: str) -> pb.RunReply:
        """Start a run from the text of a run file."""
        request = pb.InitRequest(manifest_toml=manifest_toml)
        with self._translated():
            reply: pb.RunReply = self._stub.Init(request, timeout=COMMAND_SECONDS)
            return reply

    def resume_run(self, name: str) -> pb.RunReply:
        """Go on with a run that the home keeps: by name or beginning of its id, or the newest."""
        with self._translated():
            reply: pb.RunReply = self._stub.Init(
                pb.InitRequest(resume=name), timeout=COMMAND_SECONDS
            )
            return reply

    def join(self, token: str) -> pb.RunReply:
        """Join the run of a token."""
        with self._translated():
            reply: pb.RunReply = self._stub.Join(
                pb.JoinRequest(token=token), timeout=COMMAND_SECONDS
            )
            return reply

    def leave(self) -> None:
        """Leave the run for good; the daemon goes on."""
        with self._translated():
            self._stub.Leave(pb.Empty(), timeout=COMMAND_SECONDS)

    def pause(self) -> None:
        """Stop training, but follow the run; kept over restarts."""
        with self._translated():
            self._stub.Pause(pb.Empty(), timeout=COMMAND_SECONDS)

    def resume(self) -> None:
        """Train again."""
        with self._translated():
            self._stub.Resume(pb.Empty(), timeout=COMMAND_SECONDS)

    def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """Change the run by the node's key, if it is an owner's."""
        with self._translated():
            reply: pb.OrderReply = self._stub.Order(request, timeout=COMMAND_SECONDS)
            return reply

    def invite(self, lifetime_s: float, max_uses: int = 0) -> pb.RunReply:
        """Return a fresh token of the run; 0 s: as the run file says, 0 uses: any number."""
        request = pb.InviteRequest(lifetime_seconds=lifetime_s, max_uses=max_uses)
        with self._translated():
            reply: pb.RunReply = self._stub.Invite(request, timeout=COMMAND_SECONDS)
            return reply

    def stop(self) -> None:
        """Begin to end the daemon; it goes on with its run when it is started again."""
        with self._translated():
            self._stub.Stop(pb.Empty(), timeout=STOP_SECONDS)

    def export(self, directory: Path) -> pb.ExportReply:
        """Write the model in the Hugging Face layout to an absolute ``directory``."""
        request = pb.ExportRequest(directory=str(directory))
        with self._translated():
            reply: pb.ExportReply = self._stub.Export(request, timeout=EXPORT_SECONDS)
            return reply

    def sample(self, request: pb.SampleRequest) -> str:
        """Return the prompt as the model continues it."""
        with self._translated():
            reply: pb.SampleReply = self._stub.Sample(request, timeout=COMMAND_SECONDS)
            return reply.text

    def logs(self, last: int, follow: bool = False) -> Iterator[str]:
        """Yield the newest ``last`` lines of the event log, and with ``follow`` those to come.

        Following has no deadline, since a quiet daemon may have nothing to say for hours.
        """
        request = pb.LogsRequest(last=last, follow=follow)
        with self._translated():
            for line in self._stub.Logs(request, timeout=None if follow else COMMAND_SECONDS):
                yield line.json

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._explained(error) from None

    def _explained(self, error: grpc.RpcError) -> SkerryError:
        # What grpc raises from a call is also a grpc.Call, which its types do not say.
        status, details = error.code(), error.details() or ""
        if status is grpc.StatusCode.FAILED_PRECONDITION and (coded := _CODED.fullmatch(details)):
            return from_code(coded[1], coded[2])
        if status in _GONE:
            return DaemonError("SK-DMN-001", f"nothing listens at {self._socket}")
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            detail = f"the daemon behind {self._socket} did not answer in time"
            return DaemonError("SK-DMN-001", detail)
        return DaemonError("SK-DMN-006", f"{status.name}: {details}")
