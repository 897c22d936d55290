"""The pseudo-gradient codec: top-k per tile, with error feedback, into bytes and back.

Algorithm: SparseLoCo (arXiv:2603.08163, section 2.1) with other values (values.py) and other
index coding (gaps.py). payload.py describes the bytes. Encoding and adding go span by span
(tiles.py), so that besides what is sent they need memory for one span only.

Shape suffix: N entries of the shard.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from skerry.compression.drift import Drift
from skerry.compression.entries import Entries
from skerry.compression.kernels import kernels_for
from skerry.compression.layout import PayloadLayout
from skerry.compression.options import CodecOptions
from skerry.compression.payload import OpenedPayload, seal, span_parts
from skerry.compression.values import quantise


class PseudoGradientCodec:
    """Turns the error feedback of one shard into a payload, and adds payloads to vectors."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], options: CodecOptions) -> None:
        """Lay out the tiles of a shard with these tensors, in layout order.

        Raises: ValueError on a negative dimension or if a payload could pass 4 GiB.
        """
        self.layout = PayloadLayout(shapes, options)

    @property
    def numel(self) -> int:
        """Entries of the shard."""
        return self.layout.numel

    @property
    def max_payload_bytes(self) -> int:
        """No payload is longer."""
        return self.layout.max_payload_bytes

    def encode(self, feedback: Tensor, drift: Drift | None = None) -> bytes:
        """Return the payload of the largest entries; subtract what it decodes to, in place.

        With ``drift`` one round is folded into the feedback first, in the same pass. Afterwards
        ``feedback`` is, bit for bit, what it was minus what ``add`` adds; this includes the
        rounding of magnitudes. Zeros are never sent: a tile with fewer other entries sends these.

        Args:
            feedback: [N] f32, contiguous, on any device.
            drift: of the same form, on the same device.
        Raises: CompressionError("non-finite"), and feedback is then of no use, half encoded as it
            is; ValueError on another form, feedback untouched.
        """
        self._check_form(feedback)
        for tensor in (drift.start, drift.local) if drift else ():
            self._check_form(tensor)
            if tensor.device != feedback.device:
                raise ValueError(f"drift on {tensor.device}, feedback on {feedback.device}")
        kernels = kernels_for(feedback.device)
        parts = []
        for span in self.layout.spans:
            kept = kernels.select(feedback, drift, span)
            quantised = quantise(self.layout.options.values, kept)
            # e + (-v) is e - v, bit for bit.
            kernels.add(feedback, span, _times(quantised.sent, -1.0))
            parts.append(span_parts(span, quantised))
        return seal(self.layout, parts)

    def open(self, payload: bytes) -> OpenedPayload:
        """Check a payload from anywhere, but for its spans. Raises: CompressionError."""
        return OpenedPayload(self.layout, payload)

    def check(self, payload: bytes) -> None:
        """Decode a payload from anywhere, span by span, without a result.

        Raises: CompressionError, and no other error; payload.py lists its reasons.
        """
        opened = self.open(payload)
        for index in range(len(self.layout.spans)):
            opened.entries(index)

    def add(self, payload: bytes, into: Tensor, factor: float = 1.0) -> None:
        """Add ``factor`` times the entries of a payload to ``into`` [N] f32, in place.

        The product is rounded to fp32 before it is added. All spans are decoded before the first
        is added, at 6 bytes per entry sent.

        Raises: CompressionError, ``into`` untouched; ValueError if it has another form.
        """
        self._check_form(into)
        opened = self.open(payload)
        decoded = [opened.entries(index) for index in range(len(self.layout.spans))]
        kernels = kernels_for(into.device)
        for span, entries in zip(self.layout.spans, decoded, strict=True):
            kernels.add(into, span, _times(entries, factor))

    def _check_form(self, tensor: Tensor) -> None:
        form = (tensor.dtype, tuple(tensor.shape), tensor.is_contiguous())
        if form != (torch.float32, (self.numel,), True):
            raise ValueError(f"tensor is {form}, need contiguous f32 [{self.numel}]")


def _times(entries: Entries, factor: float) -> Entries:
    """Multiply the values; a Python float would let numpy choose where it rounds."""
    return dataclasses.replace(entries, values_M=entries.values_M * np.float32(factor))
