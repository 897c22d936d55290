"""Whom to ask first for bytes that several peers have. Pure."""

from collections.abc import Mapping, Sequence
from typing import Literal

from skerry.protocol.ids import PeerId

Link = Literal["direct", "relayed", "unknown"]
MAX_DETOURS = 3
"""How many who may not have it yet are asked before a relayed peer that is sure to: each of them
costs a round trip."""


def in_order(holders: Sequence[PeerId], links: Mapping[PeerId, Link]) -> tuple[PeerId, ...]:
    """Return ``holders`` with relayed ones behind direct ones, otherwise in the order given.

    The first holder is the likeliest to have the bytes: if it is relayed, at most MAX_DETOURS
    others come before it.
    """
    relayed = [peer for peer in holders if links.get(peer) == "relayed"]
    direct = [peer for peer in holders if peer not in relayed]
    if not relayed or holders[0] != relayed[0]:
        return (*direct, *relayed)
    return (*direct[:MAX_DETOURS], relayed[0], *direct[MAX_DETOURS:], *relayed[1:])
