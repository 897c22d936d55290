"""AdamW's moments as blobs: what a peer may give to another that starts where it stands.

A newcomer with moments steps at the full learning rate at once; without, it warms up (adamw.py).
They differ between peers, so no commit vouches for them. They are therefore taken only if some
course of gradients could have made them: a step along them is no larger than along honest ones.

By the inequality of Cauchy and Schwarz, with b1, b2 the decay rates and b1^2 < b2, every mean m and
mean square v of the same gradients have |m| <= sqrt(v) (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)).

A shard's blob is its means, then its mean squares, both bf16: as large as its fp32 parameters.

Shape suffixes: N entries of a shard.
"""

import logging
from collections.abc import Iterator, Sequence
from math import sqrt

import torch
from torch import Tensor, nn

from skerry.pipeline.adamw import AdamW
from skerry.pipeline.model import ShardedModel
from skerry.pipeline.shards import split_shard
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.layout import ShardSpec
from skerry.protocol.manifest import InnerSection
from skerry.protocol.messages import ShardPayload
from skerry.protocol.moments import Moments, ShardMoments

_UNBOUNDED = 1e18
_SLACK, _TINY = 1.02, 1e-18
"""What bf16 makes of a bound that is met exactly, and of squares that it has no number for."""

log = logging.getLogger(__name__)


def give(
    model: ShardedModel,
    layout: Sequence[ShardSpec],
    optimizers: Sequence[AdamW],
    store: BlobStore,
) -> Moments:
    """Store the moments of all shards that have been stepped, one shard at a time.

    Raises: StateError("SK-DSK-001") on a full disk.
    """
    given = []
    for spec, optimizer in _owners(model, layout, optimizers):
        if optimizer.steps_taken:
            pairs = [optimizer.moments_of(p) for p in model.shard_tensors(spec)]
            flat = torch.cat([x.reshape(-1) for half in zip(*pairs, strict=True) for x in half])
            data = flat.to(torch.bfloat16).cpu().view(torch.uint8).numpy().data
            payload = ShardPayload(spec.name, store.put(data), len(data))
            given.append(ShardMoments(payload, optimizer.steps_taken))
    return tuple(given)


def take(
    model: ShardedModel,
    layout: Sequence[ShardSpec],
    optimizers: Sequence[AdamW],
    store: BlobStore,
    moments: Moments,
) -> None:
    """Go on with another peer's moments.

    An optimizer that has stepped already keeps its own. Where any is missing, or could not have
    been, it starts anew.
    """
    given = {one.payload.shard: one for one in moments}
    for optimizer in optimizers:
        if optimizer.steps_taken:
            continue
        specs = [spec for spec, owner in _owners(model, layout, optimizers) if owner is optimizer]
        try:
            steps = min(_load(model, spec, optimizer, store, given) for spec in specs)
        except (ProtocolError, StateError) as error:
            log.warning("moments are not taken: %s", error)
            optimizer.reset()
        else:
            optimizer.resume(steps)


def bound(section: InnerSection) -> float:
    """Return how many times the root of its mean square a mean can be; see the module's text."""
    b1, b2 = section.beta1, section.beta2
    if b1 * b1 >= b2:
        return _UNBOUNDED
    return (1 - b1) / sqrt((1 - b2) * (1 - b1 * b1 / b2))


def _load(
    model: ShardedModel,
    spec: ShardSpec,
    optimizer: AdamW,
    store: BlobStore,
    given: dict[str, ShardMoments],
) -> int:
    """Put the moments of a shard in place; return after how many steps they are.

    Raises: ProtocolError("moments") if there are none, or none that can be; StateError.
    """
    one = given.get(spec.name)
    if one is None or one.payload.size != spec.state_bytes or one.steps < 1:
        raise ProtocolError("moments", f"none of {spec.name}")
    flat = torch.empty(2 * spec.numel, dtype=torch.bfloat16)
    store.read_into(one.payload.address, flat.view(torch.uint8).numpy().data)
    mean_N, square_N = flat.chunk(2)
    _check(spec, optimizer, mean_N, square_N)
    means, squares = split_shard(spec, mean_N), split_shard(spec, square_N)
    for parameter, mean, square in zip(model.shard_tensors(spec), means, squares, strict=True):
        into_mean, into_square = optimizer.moments_of(parameter)
        into_mean.copy_(mean.view_as(parameter))
        into_square.copy_(square.view_as(parameter))
    return one.steps


def _check(spec: ShardSpec, optimizer: AdamW, mean_N: Tensor, square_N: Tensor) -> None:
    most_N = square_N.float().sqrt_().mul_(_SLACK * bound(optimizer.section)).add_(_TINY)
    # Of what is no number, every comparison is false.
    possible = (mean_N.float().abs_() <= most_N) & mean_N.isfinite() & square_N.isfinite()
    if not bool(possible.all()):
        raise ProtocolError("moments", f"those of {spec.name} are of no gradients")


def _owners(
    model: ShardedModel, layout: Sequence[ShardSpec], optimizers: Sequence[AdamW]
) -> Iterator[tuple[ShardSpec, AdamW]]:
    """Yield each shard with the optimizer that steps it."""
    for spec in layout:
        first: nn.Parameter = model.shard_tensors(spec)[0]
        yield spec, next(optimizer for optimizer in optimizers if optimizer.steps(first))
