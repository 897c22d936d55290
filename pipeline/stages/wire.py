"""Tensors to payloads and back, at the border between two stages.

The meeting point of the model and compression/activations: which codec a run's manifest means, and
text token ids beside the activations where the codec needs them. Trusts no payload.

Shape suffixes: B sequences, T text tokens of one, S = T + 1 with the one that is only predicted,
D model width, N = B T.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from skerry.compression.activations.codec import ActivationCodec, ActivationSpec
from skerry.compression.activations.text_ids import decode_ids, encode_ids
from skerry.compression.errors import CompressionError
from skerry.pipeline.stream import FIXED_STD
from skerry.protocol.errors import InputFault, ProtocolError
from skerry.protocol.manifest import Manifest


class Wire:
    """The codec of one run, for sequences of its context."""

    def __init__(self, manifest: Manifest, device: torch.device) -> None:
        """Make the codec; tensors are on ``device``. Raises: ValueError on a width too large."""
        section = manifest.model
        self._device = device
        self._context, self._vocab_size = section.context, section.vocab_size
        self.spec = ActivationSpec(
            values=manifest.ring.activations,
            width=section.d_model,
            subspace_dim=section.subspace.dim,
            seed=manifest.seed,
            fixed_std=FIXED_STD,
        )
        self._codec = ActivationCodec(self.spec, device)

    @property
    def needs_ids(self) -> bool:
        """Whether activations can only be read with their text token ids."""
        return self.spec.subspace_dim > 0

    def pack_ids(self, ids_BX: Tensor) -> bytes:
        """Return the payload of ids [B, any] int64."""
        return encode_ids(ids_BX.flatten(), self._vocab_size)

    def unpack_ids(self, payload: bytes, sequences: int) -> Tensor:
        """Return the ids [B, T] int64 of a payload from anywhere, zeros where none are needed.

        Raises: InputFault.
        """
        if self.needs_ids:
            return self._ids(payload, sequences, self._context)
        if payload:
            raise InputFault("wrong-length", f"{len(payload)} bytes of ids, none are needed")
        return torch.zeros(sequences, self._context, dtype=torch.int64, device=self._device)

    def unpack_windows(self, payload: bytes, sequences: int) -> Tensor:
        """Return the windows [B, S] int64 of a payload from anywhere. Raises: InputFault."""
        return self._ids(payload, sequences, self._context + 1)

    def pack_activations(self, x_BTD: Tensor, ids_BT: Tensor) -> bytes:
        """Return the payload of the activations of text tokens ``ids_BT``.

        Raises: ProtocolError("non-finite") or ("too-large").
        """
        with _named():
            return self._codec.encode_activations(x_BTD.flatten(0, 1), ids_BT.flatten())

    def unpack_activations(self, payload: bytes, ids_BT: Tensor) -> Tensor:
        """Return the activations [B, T, D] f32 of a payload from anywhere.

        Raises: InputFault.
        """
        with _blamed():
            x_ND = self._codec.decode_activations(payload, ids_BT.flatten())
        return x_ND.view(*ids_BT.shape, -1)

    def pack_gradients(self, gradient_BTD: Tensor, key: int) -> bytes:
        """Return the payload of gradients, rounded by the noise of ``key``.

        Raises: ProtocolError("non-finite") or ("too-large").
        """
        with _named():
            return self._codec.encode_gradients(gradient_BTD.flatten(0, 1), key)

    def unpack_gradients(self, payload: bytes, sequences: int) -> Tensor:
        """Return the gradients [B, T, D] f32 of a payload from anywhere. Raises: InputFault."""
        with _blamed():
            gradient_ND = self._codec.decode_gradients(payload, sequences * self._context)
        return gradient_ND.view(sequences, self._context, -1)

    def _ids(self, payload: bytes, sequences: int, length: int) -> Tensor:
        with _blamed():
            ids_N = decode_ids(payload, sequences * length, self._vocab_size)
        return ids_N.view(sequences, length).to(self._device)


@contextmanager
def _named() -> Iterator[None]:
    """Turn what is wrong with a tensor of this peer's own into a refusal."""
    try:
        yield
    except CompressionError as error:
        raise ProtocolError(error.reason, str(error)) from None


@contextmanager
def _blamed() -> Iterator[None]:
    """Turn what is wrong with a payload into what the peer that sent it did wrong."""
    try:
        yield
    except CompressionError as error:
        raise InputFault(error.reason, str(error)) from None
