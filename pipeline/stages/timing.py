"""How long one block of a run's model takes on this machine, in a process of its own.

Started by the node as ``python -m skerry.pipeline.stages.timing`` before it offers to host a part
of the model, so that the first plan knows how fast it is: JSON in, JSON out (block_speed.py).

Shape suffixes: B sequences of a microbatch, T text tokens, D model width.
"""

import sys
import time
from collections.abc import Callable

import torch

from skerry.pipeline.capacity import check_room
from skerry.pipeline.planning.block_speed import BlockSpeed, SpeedRequest
from skerry.pipeline.stages import passes
from skerry.pipeline.stages.sizes import host_size
from skerry.pipeline.stages.stage_model import StageModel
from skerry.protocol.errors import SkerryError
from skerry.protocol.manifest import Manifest, parse_canonical

_BLOCK = "block.0"
_STAGE = {1: (_BLOCK,)}
_SECONDS, _LEAST, _MOST = 0.5, 3, 64
"""How long it is repeated, and how often at least and at most; the first does not count: it sets up
what the others use, which takes torch a thousand times as long as a small block."""


def time_block(manifest: Manifest, seconds: float = _SECONDS) -> BlockSpeed:
    """Time one microbatch through one block, forth and back, as a ring computes it.

    The fastest of several counts: what else the machine does only ever makes one slower.
    """
    model = StageModel(manifest.model, manifest.seed, _STAGE)
    weights = model.parameters_of(_BLOCK)
    with torch.no_grad():
        for weight in weights:
            weight.normal_(0.0, 0.02)
    x_BTD = torch.randn(manifest.ring.microbatch, manifest.model.context, manifest.model.d_model)

    def forward() -> None:
        passes.forward(model, x_BTD, [_BLOCK])

    def backward() -> None:
        input_BTD = x_BTD.detach().requires_grad_()
        output_BTD = model.through(input_BTD, [_BLOCK])
        torch.autograd.grad(output_BTD, [input_BTD, *weights], x_BTD)

    tokens = x_BTD.shape[0] * x_BTD.shape[1]
    forward_s, backward_s = (_fastest(once, seconds / 2) for once in (forward, backward))
    return BlockSpeed(tokens / forward_s, tokens / backward_s, torch.get_num_threads())


def _fastest(once: Callable[[], None], seconds: float) -> float:
    """Return the seconds that the fastest of several takes, and no less than the clock shows."""
    once()
    took: list[float] = []
    while len(took) < _LEAST or (sum(took) < seconds and len(took) < _MOST):
        began = time.perf_counter()
        once()
        took.append(time.perf_counter() - began)
    return max(min(took), 1e-9)


def answer(request: SpeedRequest) -> BlockSpeed:
    """Time a block. Raises: ComputeError("SK-MEM-001") where there is no room for one."""
    manifest = parse_canonical(request.manifest.encode())
    check_room(host_size(manifest, _STAGE).total(1), request.memory)
    torch.set_num_threads(request.threads)
    return time_block(manifest)


def main() -> int:
    """Answer one request from standard input."""
    try:
        speed = answer(SpeedRequest.from_json(sys.stdin.buffer.read()))
    except SkerryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    sys.stdout.buffer.write(speed.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
