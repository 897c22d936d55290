"""How much a stage still learns, as its hosts have announced it."""

from dataclasses import replace

import pytest
from small_run import BOB, CAROL, OWNER, announce, child, genesis, payload

from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import SignedCommit
from skerry.recovery.gradients import stage_norm

GENESIS = genesis()
BLOCKS = ("block.0", "block.1")


def told(parent, **norms: tuple[float, ...]):
    """A commit in which peers announce norms of the two blocks."""
    shards = tuple(replace(payload("x"), shard=block) for block in BLOCKS)
    announces = tuple(
        announce(parent, peer, shards=shards, norms=norms[name])
        for name, peer in sorted({"owner": OWNER, "bob": BOB, "carol": CAROL}.items(), key=_peer)
    )
    return child(parent, announces=announces)


def _peer(named):
    return named[1]


class Commits(dict[CommitHash, SignedCommit]):
    """A chain as far as it is looked at; a real one would refuse shards that are not its run's."""

    def path(self, _: CommitHash) -> list[CommitHash]:
        return list(reversed(self))


def norm_after(*commits, blocks=BLOCKS) -> float:
    chain = Commits({CommitHash(one.hash): one for one in (GENESIS, *commits)})
    return stage_norm(chain, CommitHash(commits[-1].hash), blocks)


def test_a_stage_s_norm_is_the_root_mean_square_of_its_blocks():
    commit = told(GENESIS, owner=(3.0, 4.0), bob=(3.0, 4.0), carol=(3.0, 4.0))
    assert norm_after(commit) == pytest.approx(12.5**0.5)
    assert norm_after(commit, blocks=BLOCKS[:1]) == 3.0


def test_of_several_hosts_one_that_lies_does_not_count():
    commit = told(GENESIS, owner=(2.0, 2.0), bob=(1e30, 1e30), carol=(2.0, 2.0))
    assert norm_after(commit) == pytest.approx(2.0)


def test_the_newest_word_counts_and_silence_is_no_word():
    first = told(GENESIS, owner=(9.0, 9.0), bob=(9.0, 9.0), carol=(9.0, 9.0))
    second = told(first, owner=(1.0, 1.0), bob=(1.0, 1.0), carol=())
    third = told(second, owner=(), bob=(), carol=())
    assert norm_after(first, second, third) == pytest.approx(1.0)


@pytest.mark.parametrize("norms", [(), (0.0, 1.0)])
def test_what_is_not_known_of_all_blocks_is_not_known(norms):
    assert norm_after(told(GENESIS, owner=norms, bob=norms, carol=norms)) == 0.0
    assert norm_after(child(GENESIS), blocks=()) == 0.0
