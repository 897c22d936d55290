"""What hostile contributors send instead of what they trained: well-formed payloads, all of them.

Attackers know what everyone else sends in the round. Each makes its payload from an honest one: its
own, since all but the copier train, or another's.

Shape suffix: N entries of the shard.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skerry.compression.pseudogradient import PseudoGradientCodec

BIASED = 0.2
"""Share of its entries that a colluder gives to the common bias."""
REPLACED = 0.2
"""Share of the entries that a copier replaces, so that its copy is not exact."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What an attacker knows when it forges one shard's payload."""

    codec: PseudoGradientCodec
    own: bytes
    """What it would send if it were honest."""
    victim: bytes
    """What one of the honest peers sends."""
    random: torch.Generator
    """Its own, of this round and shard."""
    conspiracy: torch.Generator
    """The same for all attackers and in all rounds."""


Forge = Callable[[Situation], bytes]


def _dense(codec: PseudoGradientCodec, payload: bytes) -> Tensor:
    update_N = torch.zeros(codec.numel)
    codec.add(payload, update_N)
    return update_N


def flip(situation: Situation) -> bytes:
    """Reverse every sign: the run is to unlearn."""
    return situation.codec.encode(-_dense(situation.codec, situation.own))


def scale(situation: Situation) -> bytes:
    """Send a hundred times as much of the right thing."""
    return situation.codec.encode(100.0 * _dense(situation.codec, situation.own))


def noise(situation: Situation) -> bytes:
    """Send random entries of random signs, as large as honest ones."""
    codec = situation.codec
    # Small, since the codec's scales end at about 2.
    random_N = 1e-3 * torch.randn(codec.numel, generator=situation.random)
    size = _norm(codec, situation.own) / _norm(codec, codec.encode(random_N.clone()))
    return codec.encode(random_N * size)


def copy(situation: Situation) -> bytes:
    """Train nothing: send another's update with some of its entries replaced."""
    codec = situation.codec
    update_N = _dense(codec, situation.victim)
    sent_N = update_N != 0
    size = update_N[sent_N].abs().mean() if bool(sent_N.any()) else torch.tensor(0.0)
    lots_N = torch.rand(codec.numel, generator=situation.random)
    update_N[sent_N & (lots_N < REPLACED)] = 0.0
    density = float(sent_N.float().mean())
    signs_N = torch.randn(codec.numel, generator=situation.random).sign()
    fresh_N = ~sent_N & (lots_N < REPLACED * density)
    update_N[fresh_N] = signs_N[fresh_N] * size
    return codec.encode(update_N)


def collude(situation: Situation) -> bytes:
    """Mostly honest, but pull some entries the way all attackers agreed on, by a usual amount."""
    codec = situation.codec
    update_N = _dense(codec, situation.own)
    sent_N = update_N != 0
    size = update_N[sent_N].abs().mean() if bool(sent_N.any()) else torch.tensor(0.0)
    density = float(sent_N.float().mean())
    lots_N = torch.rand(codec.numel, generator=situation.conspiracy)
    signs_N = torch.randn(codec.numel, generator=situation.conspiracy).sign()
    biased_N = lots_N < BIASED * density
    # A little larger than the rest, so that these are the entries that the codec keeps.
    update_N[biased_N] = signs_N[biased_N] * size * 1.01
    return codec.encode(update_N)


ATTACKS: Mapping[str, Forge] = {
    "flip": flip,
    "noise": noise,
    "scale": scale,
    "collude": collude,
    "copy": copy,
}
"""In the order in which they are run."""


def _norm(codec: PseudoGradientCodec, payload: bytes) -> float:
    return codec.open(payload).norm() or 1.0
