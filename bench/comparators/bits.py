"""Small integers packed into bytes with plain torch operations.

Shape suffixes: M integers, P pairs of integers, Q groups of four, B bytes.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad


def pack_12(positions_M: Tensor) -> Tensor:
    """Return [B] u8: two positions below 4096 in three bytes, an odd one padded with 0."""
    first_P, second_P = pad(positions_M.int(), (0, positions_M.numel() % 2)).view(-1, 2).unbind(1)
    low_P, high_P = first_P & 255, second_P >> 4
    middle_P = (first_P >> 8) | ((second_P & 15) << 4)
    return torch.stack((low_P, middle_P, high_P), 1).to(torch.uint8).flatten()


def unpack_12(data_B: Tensor, count: int) -> Tensor:
    """Return [M] int64, the inverse of ``pack_12``."""
    low_P, middle_P, high_P = data_B.view(-1, 3).long().unbind(1)
    first_P = low_P | ((middle_P & 15) << 8)
    second_P = (middle_P >> 4) | (high_P << 4)
    return torch.stack((first_P, second_P), 1).flatten()[:count]


def pack_2(symbols_M: Tensor) -> Tensor:
    """Return [B] u8: four symbols below 4 in a byte, padded with 0; lowest bits first."""
    groups_Q4 = pad(symbols_M, (0, -symbols_M.numel() % 4)).view(-1, 4)
    first_Q, second_Q, third_Q, fourth_Q = groups_Q4.unbind(1)
    return first_Q | (second_Q << 2) | (third_Q << 4) | (fourth_Q << 6)


def unpack_2(data_B: Tensor, count: int) -> Tensor:
    """Return [M] u8, the inverse of ``pack_2``."""
    shifts_4 = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)
    return ((data_B.unsqueeze(1) >> shifts_4) & 3).flatten()[:count]
