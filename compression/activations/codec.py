"""The codecs that the peers of a ring send activations and their gradients with.

All peers of a run build the same codec from one ``ActivationSpec``. With ``subspace_dim`` 0, rows
of the residual stream are written as they are; otherwise their coordinates in the run's subspace.

Bytes per text token and direction (the subspace has 40 dimensions):

    values   subspace   width 1024   width 4096
    fp32     off        4096         16384
    bf16     off        2048         8192
    int8     off        1026         4098
    int4     off        514          2050
    fp32     40         160          160
    bf16     40         80           80
    int8     40         42           42
    int4     40         22           22

and 8 bytes per payload. Text token ids, sent once per microbatch, take 18 bits each for a
vocabulary of 262,144 (text_ids.py). So int8 in 40 dimensions takes 44.28 bytes with everything, for
microbatches of 512 text tokens: 42 + (8 + 6) / 512 + 2.25.

Activations are rounded to nearest. Gradients are rounded stochastically, by noise that is a pure
function of a seed, so that many small ones do not vanish and errors average out.

The payload of given rows is the same on every device. Coordinates are not: the order of additions
of a matrix product differs. Nothing that peers must agree on bit for bit goes through this codec.

Shape suffixes: T text tokens, D width of the residual stream, R dimensions of the subspace,
W entries of a row that are sent: D or R.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from skerry.compression.activations.bf16_rows import Bf16Rows
from skerry.compression.activations.fp32_rows import Fp32Rows
from skerry.compression.activations.integer_rows import IntegerRows
from skerry.compression.activations.row_payload import HEADER_BYTES, require_width
from skerry.compression.activations.subspace import fixed_rows, orthonormal_basis
from skerry.compression.counter_rng import Purpose, derive

ValueName = Literal["fp32", "bf16", "int8", "int4"]
RowCodec = Fp32Rows | Bf16Rows | IntegerRows


@dataclass(frozen=True, slots=True)
class ActivationSpec:
    """What all peers of a run must agree on to read each other's activations."""

    values: ValueName
    """How an entry is written."""
    width: int
    """D, entries of a row of the residual stream."""
    subspace_dim: int = 0
    """R, dimensions of the subspace; 0 sends rows as they are."""
    seed: int = 0
    """Of the run, taken modulo 2^64: the subspace and the fixed embedding part follow from it."""
    fixed_std: float = 1.0
    """Standard deviation of the fixed embedding part's entries, as the model adds them."""

    def __post_init__(self) -> None:
        """Raise ValueError on unknown values, a width outside 1..65535, R > D, odd rows in int4."""
        require_width(self.width)
        if not 0 <= self.subspace_dim <= self.width:
            raise ValueError(f"subspace_dim is {self.subspace_dim}, allowed 0..{self.width}")
        self.row_codec()

    @property
    def row_bytes(self) -> int:
        """Bytes per text token and direction."""
        return self.row_codec().row_bytes

    def payload_bytes(self, rows: int) -> int:
        """Return the length of a payload of ``rows`` text tokens."""
        return HEADER_BYTES + rows * self.row_bytes

    def row_codec(self) -> RowCodec:
        """Return the codec of what is sent per text token."""
        sent = self.subspace_dim or self.width
        match self.values:
            case "fp32":
                return Fp32Rows(sent)
            case "bf16":
                return Bf16Rows(sent)
            case "int8":
                return IntegerRows(sent, bits=8)
            case "int4":
                return IntegerRows(sent, bits=4)
        raise ValueError(f"values are {self.values!r}, allowed fp32, bf16, int8, int4")


class ActivationCodec:
    """Turns rows of the residual stream and of its gradient into payloads, and back.

    Rows are [T, D], one per text token of a microbatch, on the codec's device. They should be fp32:
    a stream kept in bfloat16 has lost more of X - E than int8 coordinates do.
    """

    def __init__(self, spec: ActivationSpec, device: torch.device) -> None:
        """Prepare for rows on ``device``; computes the subspace. Raises: ValueError."""
        self.spec = spec
        self.device = device
        self._rows = spec.row_codec()
        self._basis_DR: Tensor | None = None
        if spec.subspace_dim:
            basis_DR = orthonormal_basis(spec.seed, spec.width, spec.subspace_dim)
            self._basis_DR = basis_DR.to(device)

    def encode_activations(self, x_TD: Tensor, ids_T: Tensor) -> bytes:
        """Return the payload of activations; ``ids_T`` are the text tokens they belong to.

        Raises: CompressionError: non-finite, too-large; ValueError on another form.
        """
        self._require_form(x_TD)
        if ids_T.shape != x_TD.shape[:1]:
            raise ValueError(f"{list(ids_T.shape)} ids for {x_TD.shape[0]} rows")
        if self._basis_DR is not None:
            x_TD = x_TD.detach().float() - self._fixed_rows(ids_T)
        return self._rows.encode(self._projected(x_TD))

    def decode_activations(self, payload: bytes, ids_T: Tensor) -> Tensor:
        """Return the activations [T, D] f32 of a payload from anywhere.

        Raises: CompressionError, and no other error: those of the row codec's ``decode``.
        """
        x_TD = self._lifted(self._rows.decode(payload, ids_T.numel(), self.device))
        return x_TD if self._basis_DR is None else x_TD.add_(self._fixed_rows(ids_T))

    def encode_gradients(self, gradient_TD: Tensor, seed: int) -> bytes:
        """Return the payload of gradients, a pure function of both arguments.

        Args:
            gradient_TD: dL/dX; what is outside the subspace is dropped.
            seed: taken modulo 2^64; another one for every payload of the run.
        Raises: CompressionError: non-finite, too-large; ValueError on another form.
        """
        self._require_form(gradient_TD)
        return self._rows.encode(self._projected(gradient_TD), derive(seed, Purpose.ROUNDING))

    def decode_gradients(self, payload: bytes, rows: int) -> Tensor:
        """Return the gradients [rows, D] f32 of a payload from anywhere.

        Raises: CompressionError, and no other error: those of the row codec's ``decode``.
        """
        return self._lifted(self._rows.decode(payload, rows, self.device))

    def _require_form(self, rows_TD: Tensor) -> None:
        form = (rows_TD.dim(), rows_TD.shape[-1:], rows_TD.is_floating_point())
        if form != (2, (self.spec.width,), True):
            found = f"{rows_TD.dtype} {list(rows_TD.shape)}"
            raise ValueError(f"rows are {found}, need floats [rows, {self.spec.width}]")

    def _fixed_rows(self, ids_T: Tensor) -> Tensor:
        rows_TD = fixed_rows(self.spec.seed, ids_T.to(self.device), self.spec.width)
        return rows_TD.mul_(self.spec.fixed_std)

    def _projected(self, rows_TD: Tensor) -> Tensor:
        """Return what is sent of rows: [T, W]."""
        if self._basis_DR is None:
            return rows_TD
        # Autocast would round both sides of the product to bfloat16.
        with torch.autocast(self.device.type, enabled=False):
            return rows_TD.detach().float() @ self._basis_DR

    def _lifted(self, sent_TW: Tensor) -> Tensor:
        """Return the rows [T, D] behind what was sent."""
        if self._basis_DR is None:
            return sent_TW
        with torch.autocast(self.device.type, enabled=False):
            return sent_TW @ self._basis_DR.T
