"""Evidence for judging.py, gathered shard by shard from the payloads of a round.

Contributions need not have the same shards: peers of rings send those that they host. Two of them
are compared over the shards that both have.

Shape suffixes: C contributions, P those that have one shard.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from skerry.compression.agreement import agreement
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.pipeline.judging import Evidence
from skerry.protocol.ids import PeerId

ShardPayloads = tuple[PseudoGradientCodec, Mapping[int, bytes]]
"""The codec of a shard, and the payloads of the contributions, by number, that have it."""


def gather(
    authors: Sequence[PeerId], shards: Iterable[ShardPayloads], flawed: Mapping[int, str]
) -> tuple[Evidence, dict[int, str]]:
    """Return what the contributions of ``authors`` have in common, and what is malformed.

    Args:
        shards: taken one by one, so that the payloads of one are in memory at a time.
        flawed: contributions, by number, that are known to be malformed, and why; this may grow
            while shards are taken.
    Returns: the evidence of all others, and the first flaw of each malformed one.
    """
    number = len(authors)
    sent_CC, shared_CC, balance_CC = np.zeros((3, number, number), np.int64)
    squares_CC = np.zeros((number, number), np.float64)
    flaws: dict[int, str] = {}
    for codec, payloads in shards:
        those_P = np.array(sorted(payloads), np.int64)
        found = agreement(codec, [payloads[int(i)] for i in those_P])
        pairs = np.ix_(those_P, those_P)
        sent_CC[pairs] += found.sent_C[:, None]
        shared_CC[pairs] += found.shared_CC
        balance_CC[pairs] += found.balance_CC
        squares_CC[pairs] += np.array(found.squares, np.float64)[:, None]
        for i, reason in found.flaws.items():
            flaws.setdefault(int(those_P[i]), reason)
    flaws = {**flaws, **flawed}
    sound_P = np.array([i for i in range(number) if i not in flaws], np.int64)
    pairs = np.ix_(sound_P, sound_P)
    evidence = Evidence(
        authors=tuple(authors[i] for i in sound_P),
        sent=sent_CC[pairs].tolist(),
        shared=shared_CC[pairs].tolist(),
        balance=balance_CC[pairs].tolist(),
        squares=squares_CC[pairs].tolist(),
    )
    return evidence, flaws
