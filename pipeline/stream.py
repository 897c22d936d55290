"""What all blocks of a model share: rotary tables, and how parts write to the residual stream.

Without a subspace, or with mode "wire", a part writes rows of the stream itself. With mode
"reparam" it writes coordinates in the run's subspace: its matrix W is stored as W' with W = U W',
so that whatever is done to W' - AdamW, weight decay, a sparse outer update of anybody's - W keeps
its columns in the span of U. Nothing has to be projected back, on any peer, ever.

With a subspace of either mode, text tokens have a fixed embedding part besides the trained one. It
is of full rank, follows from the seed, and is neither stored nor sent: the ids are enough.

Shape suffixes: B sequences, T text tokens, D model width, R dimensions of the subspace, W what a
part writes: R with mode "reparam", else D; H width of one head, N any inputs, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skerry.compression.activations.subspace import fixed_rows, orthonormal_basis
from skerry.protocol.manifest import ModelSection

FIXED_STD = 0.02
"""Standard deviation of the fixed embedding part: that of initial trained rows (shards.py). With 1,
as in the reference, blocks hardly move the stream at first: after 60 steps of 4 replicas with 1.2
million parameters the loss was 3.00 instead of 2.78, and 3.19 instead of 2.99 with mode "reparam"
and an eighth of the dimensions (one seed, 2026-11-21)."""


class Stream(nn.Module):
    """Tables as buffers, so that they follow the model to its device; none is part of its state."""

    cos_TH: Tensor
    sin_TH: Tensor
    basis_DR: Tensor | None

    def __init__(self, section: ModelSection, seed: int | None) -> None:
        """Compute the tables.

        Args:
            section: shape of the model.
            seed: the run's; needed where the model has a subspace.
        Raises: ValueError without the seed that a subspace follows from.
        """
        super().__init__()
        head_dim = section.d_model // section.heads
        cos_TH, sin_TH = rotary_tables(section.context, head_dim, section.rope_theta)
        self.register_buffer("cos_TH", cos_TH, persistent=False)
        self.register_buffer("sin_TH", sin_TH, persistent=False)
        self._width, self._seed = section.d_model, 0
        self._has_fixed_part = section.subspace.dim > 0
        if self._has_fixed_part:
            if seed is None:
                raise ValueError("the subspace follows from the run's seed, which is missing")
            self._seed = seed
        basis_DR = None
        if section.is_reparametrised:
            basis_DR = orthonormal_basis(self._seed, self._width, section.subspace.dim)
        self.register_buffer("basis_DR", basis_DR, persistent=False)

    def rotary(self, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines [T, H] of the first positions."""
        return self.cos_TH[:num_tokens], self.sin_TH[:num_tokens]

    def written(self, written_BTW: Tensor) -> Tensor:
        """Return the rows [B, T, D] of the stream behind what a part wrote."""
        return written_BTW if self.basis_DR is None else F.linear(written_BTW, self.basis_DR)

    def embedded(self, tokens_BT: Tensor, written_BTW: Tensor) -> Tensor:
        """Return the embeddings [B, T, D] of text tokens, given their trained part."""
        rows_BTD = self.written(written_BTW)
        if not self._has_fixed_part:
            return rows_BTD
        fixed_ND = fixed_rows(self._seed, tokens_BT.flatten(), self._width).mul_(FIXED_STD)
        return rows_BTD + fixed_ND.view_as(rows_BTD)

    def dense_writer(self, matrix_WN: Tensor) -> Tensor:
        """Return the matrix [D, N] that a part's parameters stand for."""
        return matrix_WN if self.basis_DR is None else self.basis_DR @ matrix_WN

    def dense_embedding(self, tokens_VW: Tensor) -> Tensor:
        """Return the embedding [V, D] that the trained one stands for, fixed part included."""
        ids_V = torch.arange(tokens_VW.shape[0], device=tokens_VW.device)
        return self.embedded(ids_V, tokens_VW)


def rotary_tables(num_tokens: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [T, H] f32 of the angles position * theta ** (-2r / H).

    R here is half of H. Source: Su et al. 2021 (arXiv:2104.09864), in the half-split order of the
    Hugging Face Llama.
    """
    powers_R = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    positions_T = torch.arange(num_tokens, dtype=torch.float32)
    angles_TR = torch.outer(positions_T, 1.0 / theta**powers_R)
    angles_TH = torch.cat((angles_TR, angles_TR), dim=1)
    return angles_TH.cos(), angles_TH.sin()
