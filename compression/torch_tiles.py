"""Tile kernels in torch operations, for any device: the same bits as cpu_tiles.py.

Every operation is one correctly rounded fp32 operation or none at all; entries of one payload
are unique, so that no two additions of an ``index_add_`` meet.

Shape suffixes: N entries of the shard, T tiles of a span, V existing entries of a tile, M kept
entries of all tiles.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from skerry.compression.drift import Drift, folded
from skerry.compression.entries import Entries, Weights
from skerry.compression.errors import CompressionError
from skerry.compression.tiles import TileSpan


class TorchTiles:
    """Kernels for tensors on any device; a span needs some 40 bytes per entry there."""

    def select(self, feedback_N: Tensor, drift: Drift | None, span: TileSpan) -> Entries:
        """See kernels.py."""
        flat_TV = _flat_indices(span, feedback_N.device)
        tiles_TV = folded(feedback_N, drift, flat_TV)
        if not bool(torch.isfinite(tiles_TV).all()):
            raise CompressionError("non-finite", "error feedback holds an infinity or NaN")
        if drift is not None:
            feedback_N[flat_TV] = tiles_TV
        chosen_TV = _chosen(tiles_TV.abs(), span.keep)
        # nonzero lists its finds in row-major order: by tile, then by ascending position.
        positions_M = chosen_TV.nonzero()[:, 1]
        return Entries(
            counts_T=chosen_TV.sum(1).cpu().numpy(),
            positions_M=positions_M.cpu().numpy().astype(np.uint16),
            values_M=tiles_TV[chosen_TV].cpu().numpy(),
        )

    def add(self, into_N: Tensor, span: TileSpan, entries: Entries) -> None:
        """See kernels.py."""
        device = into_N.device
        flat_M = _flat_indices(span, device).flatten()[_places(span, entries, device)]
        into_N.index_add_(0, flat_M, torch.from_numpy(entries.values_M).to(device))

    def mean(
        self, into_N: Tensor, span: TileSpan, terms: Sequence[Entries], weights: Weights
    ) -> None:
        """See kernels.py."""
        flat_TV = _flat_indices(span, into_N.device).flatten()
        sums_TV = torch.zeros_like(flat_TV, dtype=torch.float32)
        tally_TV = torch.full_like(sums_TV, weights.divisor or 0.0)
        for entries, weight in zip(terms, weights.of_terms, strict=True):
            places_M = _places(span, entries, into_N.device)
            values_M = torch.from_numpy(entries.values_M).to(into_N.device)
            sums_TV.index_add_(0, places_M, values_M)
            if weights.divisor is None:
                tally_TV.index_add_(0, places_M, torch.full_like(values_M, weight))
        into_N[flat_TV] = torch.where(tally_TV > 0, sums_TV / tally_TV, 0.0)


def _places(span: TileSpan, entries: Entries, device: torch.device) -> Tensor:
    """Return each entry's place [M] among all positions of all tiles."""
    counts_T = torch.from_numpy(entries.counts_T).to(device)
    tiles_M = torch.arange(span.num_tiles, device=device).repeat_interleave(counts_T)
    positions_M = torch.from_numpy(entries.positions_M.astype(np.int64)).to(device)
    return tiles_M * span.valid + positions_M


def _flat_indices(span: TileSpan, device: torch.device) -> Tensor:
    """Return the flat index [T, V] of each position of each tile."""
    rows = span.rows()
    begin_R = torch.from_numpy(rows.begin_R).to(device)
    length_R = torch.from_numpy(rows.length_R).to(device)
    ends_R = length_R.cumsum(0)
    shift_R = begin_R - (ends_R - length_R)
    places = torch.arange(span.num_tiles * span.valid, device=device)
    return (places + shift_R.repeat_interleave(length_R)).reshape(span.num_tiles, span.valid)


def _chosen(magnitudes_TV: Tensor, keep: int) -> Tensor:
    """Mark each tile's largest entries but zeros, at most ``keep``; ties: lowest position first.

    ``torch.topk`` promises nothing about which of several equal entries it returns. Its values,
    however, are determined; so only the K-th largest magnitude is taken from it, as a threshold.
    """
    threshold_T1 = magnitudes_TV.topk(keep, dim=1, sorted=False).values.amin(1, keepdim=True)
    chosen_TV = (magnitudes_TV >= threshold_T1) & (magnitudes_TV > 0)
    tied_T = (chosen_TV.sum(1) > keep).nonzero().squeeze(1)
    if tied_T.numel():
        chosen_TV[tied_T] = _break_ties(magnitudes_TV[tied_T], threshold_T1[tied_T], keep)
    return chosen_TV


def _break_ties(magnitudes_TV: Tensor, threshold_T1: Tensor, keep: int) -> Tensor:
    above_TV = magnitudes_TV > threshold_T1
    equal_TV = magnitudes_TV == threshold_T1
    missing_T1 = keep - above_TV.sum(1, keepdim=True)
    return above_TV | (equal_TV & (equal_TV.cumsum(1) <= missing_T1))
