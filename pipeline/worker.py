"""The compute process: frames in, methods of engine.py or stage_exchange.py, frames out.

Started by the node as ``python -m skerry.pipeline.worker LAUNCH FD``: LAUNCH is the JSON of
protocol/compute.py's ``Launch``, FD the inherited end of a Unix socket pair. The node decides
when it ends: by ``Stop``, by closing its end, by SIGTERM, or by dying. Ctrl-C is not for us.
"""

import ctypes
import logging
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch

from skerry.pipeline.capacity import available_bytes, check_memory, check_room
from skerry.pipeline.engine import Engine
from skerry.pipeline.frames import Channel
from skerry.pipeline.stage_exchange import StageExchange, stages_of
from skerry.pipeline.stages.sizes import host_size
from skerry.protocol.blobs import BlobStore, disk_errors
from skerry.protocol.compute import (
    Apply,
    Begin,
    Encode,
    Encoded,
    Evaluate,
    Export,
    Failed,
    Finish,
    Hello,
    Open,
    Progress,
    Reply,
    Request,
    Sample,
    Settle,
    StageTask,
    Stop,
    Train,
    Try,
    Validate,
)
from skerry.protocol.errors import ComputeError, SkerryError, from_code
from skerry.protocol.launch import Launch
from skerry.protocol.manifest import Manifest, parse_canonical
from skerry.protocol.moments import GiveMoments
from skerry.protocol.shading import Shade

PROGRESS_INTERVAL_S = 0.1
"""At most so often does Progress go out; people read no faster."""

_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


class Worker:
    """Answers requests in order; during training also Finish, Stop, Validate and GiveMoments."""

    def __init__(self, channel: Channel, engine: Engine | StageExchange) -> None:
        """Answer over ``channel`` with what ``engine`` does."""
        self._channel, self._engine = channel, engine
        self._waiting: deque[Request] = deque()
        """Arrived during training, not yet begun."""

    def serve(self) -> None:
        """Answer until Stop. Raises: ParentGone when the node closes its end."""
        while True:
            request = self._waiting.popleft() if self._waiting else self._channel.receive()
            if isinstance(request, Stop):
                return
            if not isinstance(request, Finish):  # its training has ended already
                self._answer(request)

    def _answer(self, request: Request) -> None:
        reply = attempt(request.request, lambda: self._do(request))
        self._channel.send(reply)
        if isinstance(reply, Encoded):  # now that the contribution can leave
            self._engine.keep_moments()

    def _do(self, request: Request) -> Reply:
        match request:
            case Begin():
                return self._engine.begin(request)
            case Encode():
                return self._engine.encode(request)
            case Validate():
                return self._engine.validate(request)
            case Apply():
                return self._engine.apply(request)
            case Settle():
                return self._engine.settle(request)
            case GiveMoments():
                return self._engine.give_moments(request)
            case Train() | Evaluate() | Try() | Sample() | Export() if isinstance(
                self._engine, Engine
            ):
                return self._do_whole(self._engine, request)
            case Open() | StageTask() | Shade() if isinstance(self._engine, StageExchange):
                return self._do_stages(self._engine, request)
        raise ComputeError("SK-CMP-002", f"{request.kind} is not for this process")

    def _do_whole(self, engine: Engine, request: Train | Evaluate | Try | Sample | Export) -> Reply:
        match request:
            case Train():
                return self._train(engine, request)
            case Evaluate():
                return engine.evaluate(request)
            case Try():
                return engine.attempt(request)
            case Sample():
                return engine.sample(request)
            case Export():
                return engine.export(request)

    def _do_stages(self, engine: StageExchange, request: Open | StageTask | Shade) -> Reply:
        match request:
            case Open():
                return engine.open(request)
            case StageTask():
                return engine.do(request)
            case Shade():
                return engine.shade(request)

    def _train(self, engine: Engine, request: Train) -> Reply:
        reporter = Reporter(self._channel)

        def between(progress: Progress) -> bool:
            reporter.report(progress)
            self._look_up()
            return Finish(request=request.request) not in self._waiting

        trained = engine.train(request, between)
        reporter.flush()
        return trained

    def _look_up(self) -> None:
        """Take what has arrived; what cannot wait for the end of training is done now."""
        while (request := self._channel.poll()) is not None:
            if isinstance(request, Stop):
                raise SystemExit(0)
            if isinstance(request, Validate | GiveMoments):
                self._answer(request)
            else:
                self._waiting.append(request)


class Reporter:
    """Sends Progress now and then, and the last one always."""

    def __init__(self, channel: Channel) -> None:
        """Report over ``channel``."""
        self._channel = channel
        self._unsent: Progress | None = None
        self._next_time = 0.0

    def report(self, progress: Progress) -> None:
        """Send ``progress`` unless one was sent just before."""
        self._unsent = progress
        if time.monotonic() >= self._next_time:
            self.flush()

    def flush(self) -> None:
        """Send the newest if it was held back."""
        if self._unsent is not None:
            self._channel.send(self._unsent)
            self._unsent = None
            self._next_time = time.monotonic() + PROGRESS_INTERVAL_S


def attempt(request: int, action: Callable[[], Reply]) -> Reply:
    """Do what was asked; whatever goes wrong becomes ``Failed`` of that request."""
    try:
        with disk_errors():
            return action()
    except SkerryError as error:
        log.warning("request %d failed: %s", request, error)
        return Failed(request=request, code=error.code, detail=error.detail)
    except Exception as error:  # the edge of the process: the node must hear of it
        log.exception("request %d failed unexpectedly", request)
        detail = f"{type(error).__name__}: {error}"[:1000]
        return Failed(request=request, code="SK-CMP-002", detail=detail)


def start(launch: Launch) -> Engine | StageExchange:
    """Make the engine. Raises: ConfigError, ComputeError("SK-MEM-001") before allocating."""
    manifest = parse_canonical(launch.manifest.encode())
    _check_memory(launch, manifest)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(launch.threads)
    folder = Path(launch.folder)
    with disk_errors():
        folder.mkdir(parents=True, exist_ok=True)
    store = BlobStore(Path(launch.store))
    if launch.hosting is None:
        return Engine(manifest, store, folder, launch.author)
    return StageExchange(manifest, store, folder, launch.author, launch.hosting)


def _check_memory(launch: Launch, manifest: Manifest) -> None:
    if launch.hosting is None:
        check_memory(manifest, available_bytes())
    else:
        size = host_size(manifest, stages_of(launch.hosting))
        check_room(size.total(launch.hosting.slots), available_bytes())


def run(launch: Launch, channel: Channel) -> int:
    """Say hello, serve, and return the exit code."""
    engines: list[Engine | StageExchange] = []

    def hello() -> Hello:
        engines.append(start(launch))
        return engines[0].hello()

    first = attempt(0, hello)
    channel.send(first)
    if isinstance(first, Failed):
        return from_code(first.code, first.detail).exit_code
    Worker(channel, engines[0]).serve()
    return 0


def die_with_parent() -> None:
    """Ask the kernel (Linux only) to kill us when the thread that started us ends."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            log.warning("prctl failed: errno %d", ctypes.get_errno())


def main() -> int:
    """Run as the compute process of the command line."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    launch = Launch.from_json(sys.argv[1])
    with socket.socket(fileno=int(sys.argv[2])) as connection:
        connection.set_inheritable(False)
        return run(launch, Channel(connection))


if __name__ == "__main__":
    sys.exit(main())
