"""AdamW's moments as vectors: what a process goes on with that starts where others stand.

They come from this peer's own disk (kept_moments.py) or, as blobs, from a peer that gives them.
With moments it steps at the full learning rate at once; without, it warms up (adamw.py). They
differ between peers, so no commit vouches for them. They are therefore taken only if some course
of gradients could have made them: a step along them is no larger than along honest ones.

By the inequality of Cauchy and Schwarz, with b1, b2 the decay rates and b1^2 < b2, every mean m and
mean square v of the same gradients have |m| <= sqrt(v) (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)).

A shard's vector is its means, then its mean squares, both bf16: as large as its fp32 parameters.
What rounding changes, by one part in 2^9 at most, is little beside what tells batches apart.

Shape suffixes: N entries of a shard.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class ShardVector:
    """The moments of one shard."""

    spec: ShardSpec
    steps: int
    """That they are made of."""
    flat: Tensor
    """[2 N] bf16: the means, then the mean squares."""


Read = Callable[[ShardSpec], ShardVector]
"""Returns the moments of a shard. Raises: ProtocolError("moments") if there are none, StateError
if they cannot be read."""


def vectors(
    model: ShardedModel, layout: Sequence[ShardSpec], optimizers: Sequence[AdamW]
) -> Iterator[ShardVector]:
    """Yield the moments of all shards that have been stepped, one shard at a time."""
    for spec, optimizer in _owners(model, layout, optimizers):
        if optimizer.steps_taken:
            yield _vector(model, spec, optimizer)


def stepped(
    model: ShardedModel, layout: Sequence[ShardSpec], optimizers: Sequence[AdamW]
) -> tuple[ShardSpec, ...]:
    """Return the shards whose moments ``vectors`` yields."""
    return tuple(s for s, owner in _owners(model, layout, optimizers) if owner.steps_taken)


def give(some: Iterable[ShardVector], store: BlobStore) -> Moments:
    """Store moments as blobs. Raises: StateError("SK-DSK-001") on a full disk."""
    given = []
    for one in some:
        data = one.flat.view(torch.uint8).numpy().data
        payload = ShardPayload(one.spec.name, store.put(data), len(data))
        given.append(ShardMoments(payload, one.steps))
    return tuple(given)


def given(moments: Moments, store: BlobStore) -> Read:
    """Return how to read what another peer gave."""
    by_name = {one.payload.shard: one for one in moments}

    def read(spec: ShardSpec) -> ShardVector:
        one = by_name.get(spec.name)
        if one is None or one.payload.size != spec.state_bytes:
            raise ProtocolError("moments", f"none of {spec.name}")
        flat = torch.empty(2 * spec.numel, dtype=torch.bfloat16)
        store.read_into(one.payload.address, flat.view(torch.uint8).numpy().data)
        return ShardVector(spec, one.steps, flat)

    return read


def take(
    model: ShardedModel, layout: Sequence[ShardSpec], optimizers: Sequence[AdamW], read: Read
) -> None:
    """Go on with moments that come by ``read``.

    An optimizer that has stepped already keeps its own. Where any is missing, or could not have
    been, it starts anew.
    """
    for optimizer in optimizers:
        if optimizer.steps_taken:
            continue
        specs = [spec for spec, owner in _owners(model, layout, optimizers) if owner is optimizer]
        try:
            steps = min(_put(model, read(spec), optimizer) for spec in specs)
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


def _vector(model: ShardedModel, spec: ShardSpec, optimizer: AdamW) -> ShardVector:
    flat = torch.empty(2 * spec.numel, dtype=torch.bfloat16)
    means, squares = (split_shard(spec, half_N) for half_N in flat.chunk(2))
    for parameter, mean, square in zip(model.shard_tensors(spec), means, squares, strict=True):
        from_mean, from_square = optimizer.moments_of(parameter)
        mean.copy_(from_mean.view_as(mean))
        square.copy_(from_square.view_as(square))
    return ShardVector(spec, optimizer.steps_taken, flat)


def _put(model: ShardedModel, one: ShardVector, optimizer: AdamW) -> int:
    """Put the moments of a shard in place; return after how many steps they are.

    Raises: ProtocolError("moments") if they cannot be.
    """
    spec = one.spec
    if one.steps < 1:
        raise ProtocolError("moments", f"those of {spec.name} are of no steps")
    mean_N, square_N = one.flat.chunk(2)
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
