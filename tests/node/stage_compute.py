"""What a compute process of stages does, for rings in one process and on virtual time."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from skerry.node.ring.settings import hosting_of
from skerry.pipeline.stage_exchange import StageExchange
from skerry.pipeline.worker import attempt
from skerry.protocol import compute as cp
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ComputeError, from_code
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.manifest import Manifest
from skerry.protocol.rings.plan import Plan


@dataclass
class StageCompute:
    """The stages of one peer, asked as a ComputeProcess is."""

    manifest: Manifest
    plan: Plan
    peer: PeerId
    folder: Path
    takes_s: float = 0.0
    """Virtual seconds of each computation."""
    gone: bool = False
    """Whether there is no process now."""
    requests: int = 0

    def start(self) -> None:
        """As a new process does, with the parameters of the seed."""
        folder = self.folder / self.peer
        folder.mkdir(exist_ok=True)
        hosting = hosting_of(self.plan, self.peer)
        assert hosting is not None
        store = BlobStore(folder / "blobs")
        self.stages = StageExchange(self.manifest, store, folder, self.peer, hosting)
        self.stages.begin(cp.Begin(request=0, shards=None))
        self.gone = False

    async def ask(self, build: Callable[[int], cp.Request]) -> cp.Reply:
        """Do one request, as ComputeProcess.submit does."""
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        if self.gone:
            raise ComputeError("SK-CMP-001", "it is being restarted")
        self.requests += 1
        request = build(self.requests)
        reply = attempt(self.requests, lambda: self._do(request))
        if isinstance(reply, cp.Failed):
            raise from_code(reply.code, reply.detail)
        return reply

    def _do(self, request: cp.Request) -> cp.Reply:
        match request:
            case cp.Open():
                return self.stages.open(request)
            case cp.StageTask():
                return self.stages.do(request)
            case cp.Encode():
                return self.stages.encode(request)
        raise AssertionError(f"a ring asks for no {request.kind}")

    async def encode(self, parent: CommitHash) -> cp.Encoded:
        """Encode what was trained upon a commit."""
        reply = await self.ask(lambda n: cp.Encode(request=n, parent=parent, send=True))
        assert isinstance(reply, cp.Encoded)
        return reply


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as a compute process is told to."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
