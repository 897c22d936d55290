"""How much each stage still learns, as the commit chain tells it. Pure.

A peer of a ring announces the norms of its gradients with its contribution, so they are signed and
in every commit that includes it: all who ask find the same. They are only what hosts say. Of
several hosts of a shard the median counts, and no norm counts for more than a few times another
(neighbours.py).
"""

from collections.abc import Sequence
from itertools import islice
from math import sqrt
from statistics import median

from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import Commit
from skerry.protocol.rounds.chain import Chain
from skerry.protocol.rounds.renewing import MEMORY


def stage_norm(chain: Chain, goal: CommitHash, blocks: Sequence[str]) -> float:
    """Return the norm of a stage's last gradient by its blocks, up to ``goal``; 0: not known.

    The root mean square over its blocks, so that stages of other sizes compare; embedding and head,
    which the first stage has besides, say nothing about its blocks.
    """
    norms = [_block_norm(chain, goal, block) for block in blocks]
    if not norms or min(norms) <= 0:
        return 0.0
    return sqrt(sum(norm * norm for norm in norms) / len(norms))


def _block_norm(chain: Chain, goal: CommitHash, block: str) -> float:
    for name in islice(chain.path(goal), MEMORY):
        if told := _told(chain[name].message, block):
            return median(told)
    return 0.0


def _told(commit: Commit, block: str) -> list[float]:
    """Return what the hosts of a block say in one commit."""
    found: list[float] = []
    for announce in commit.announces:
        message = announce.message
        if message.norms:
            pairs = zip(message.shards, message.norms, strict=True)
            found += [norm for payload, norm in pairs if payload.shard == block]
    return found
