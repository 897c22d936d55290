"""Every way to send a shard under one form: ours and what it is compared with.

Shape suffix: N entries of the shard.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from codec_bench.cases import Shapes
from comparators.dense import ByteScheme, HalfScheme
from comparators.random_k import RandomScheme
from comparators.reference import ReferencePayload, ReferenceScheme
from skerry.compression.drift import Drift
from skerry.compression.layout import HEADER, SPAN_ROW
from skerry.compression.options import CodecOptions, Values
from skerry.compression.pseudogradient import PseudoGradientCodec

K = 64
_SLICE_ENTRIES = 2**17
"""Half a megabyte of each of four vectors: they stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a scheme made of a round."""

    num_bytes: int
    """On the wire."""
    index_bytes: int | None
    """Of these, what says where the entries are; None where nothing needs to."""
    add: Callable[[Tensor], None]
    """Decodes the payload and adds it to a vector [N] f32."""


Scheme = Callable[[Tensor, Drift], Encoded]
"""Takes a round up into error feedback [N] f32, encodes, subtracts what the payload says."""


class SizedPayload(Protocol):
    """A payload that knows its size."""

    @property
    def num_bytes(self) -> int:
        """Bytes on the wire."""


P = TypeVar("P", bound=SizedPayload)


class Comparator(Protocol[P]):
    """What the modules of comparators/ have in common."""

    def encode(self, feedback_N: Tensor) -> P:
        """Return a payload and subtract what it decodes to."""

    def add(self, payload: P, total_N: Tensor) -> None:
        """Add what a payload decodes to."""


def ours(shapes: Shapes, values: Values) -> Scheme:
    """Return the product's codec, which takes up, encodes and subtracts in one pass."""
    codec = PseudoGradientCodec(shapes, CodecOptions(k=K, values=values))

    def encode(feedback_N: Tensor, drift: Drift) -> Encoded:
        payload = codec.encode(feedback_N, drift)
        return Encoded(
            len(payload),
            gap_bytes(payload, len(codec.layout.spans)),
            partial(codec.add, payload),
        )

    return encode


def gap_bytes(payload: bytes, spans: int) -> int:
    """Return the bytes of the stored gaps of all spans and of the table of their lengths."""
    table = np.frombuffer(payload, "<u4", 2 * spans, HEADER.size).reshape(spans, 2)
    return int(table[:, 1].sum()) + spans * SPAN_ROW.size


def theirs(
    scheme: Comparator[P],
    num_bytes: Callable[[P], int] = lambda payload: payload.num_bytes,
    index_bytes: Callable[[P], int | None] = lambda payload: None,
) -> Scheme:
    """Return a comparator of plain torch, with the round taken up before it."""

    def encode(feedback_N: Tensor, drift: Drift) -> Encoded:
        take_up(feedback_N, drift)
        payload = scheme.encode(feedback_N)
        add = partial(scheme.add, payload)
        return Encoded(num_bytes(payload), index_bytes(payload), add)

    return encode


def reference(shapes: Shapes, num_bytes: Callable[[ReferencePayload], int]) -> Scheme:
    """Return the scheme of SparseLoCo with one of its two sizes."""
    return theirs(ReferenceScheme(shapes, K), num_bytes, lambda payload: payload.index_bytes)


@dataclass(frozen=True, slots=True)
class Entry:
    """A scheme of the table."""

    make: Callable[[Shapes], Scheme]
    timed: bool = True
    """False where only the size differs from another entry's."""


SCHEMES = {
    "sign": Entry(lambda shapes: ours(shapes, "sign")),
    "sym2": Entry(lambda shapes: ours(shapes, "sym2")),
    "fp16": Entry(lambda shapes: ours(shapes, "fp16")),
    "reference": Entry(lambda shapes: reference(shapes, lambda payload: payload.num_bytes)),
    "reference as shipped": Entry(
        lambda shapes: reference(shapes, lambda payload: payload.shipped_bytes), timed=False
    ),
    "random-k fp16": Entry(lambda shapes: theirs(RandomScheme(sum(map(prod, shapes)), K))),
    "dense int8": Entry(lambda shapes: theirs(ByteScheme(shapes))),
    "dense fp16": Entry(lambda shapes: theirs(HalfScheme())),
}
"""By name; the first three are ours."""


def take_up(feedback_N: Tensor, drift: Drift) -> None:
    """Fold a round into ``feedback_N`` in place, as fast as plain torch does it.

    Slices that fit into the cache halve the traffic to memory.
    """
    vectors = (feedback_N, drift.start, drift.local)
    pieces = zip(*(torch.split(vector, _SLICE_ENTRIES) for vector in vectors), strict=True)
    moved = torch.empty(min(_SLICE_ENTRIES, feedback_N.numel()))
    for feedback, start, local in pieces:
        delta = torch.sub(start, local, out=moved[: start.numel()])
        torch.add(delta, feedback, alpha=drift.decay, out=feedback)
