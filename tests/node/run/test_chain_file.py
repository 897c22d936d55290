"""Commits that are read again one by one from the file that holds them."""

import event_strategies
import pytest

from skerry.node.run.chain_file import ChainFile
from skerry.protocol.errors import StateError
from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import Commit

COMMITS = tuple({commit.hash: commit for commit in event_strategies.signed(Commit)}.values())
NAMES = [CommitHash(commit.hash) for commit in COMMITS]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chain.bin"


@pytest.fixture
def chain(path) -> ChainFile:
    chain = ChainFile(path)
    chain.append(COMMITS[:1])
    chain.append(COMMITS[1:])
    return chain


def test_each_commit_that_was_written_is_read_again(chain):
    assert all(name in chain for name in NAMES)
    assert [chain[name] for name in NAMES] == [commit.envelope for commit in COMMITS]


def test_commits_of_an_earlier_process_are_there_once_they_were_loaded(chain, path):
    again = ChainFile(path)
    assert NAMES[0] not in again
    assert again.load() == COMMITS
    assert [again[name] for name in NAMES] == [commit.envelope for commit in COMMITS]


def test_what_was_cut_off_is_no_longer_there(chain, path):
    path.write_bytes(path.read_bytes()[:-1])
    assert chain.load() == COMMITS[:-1]
    assert NAMES[-1] not in chain


def test_unknown_commit_is_not_there(chain):
    assert "0" * 64 not in chain
    with pytest.raises(KeyError):
        chain["0" * 64]


@pytest.mark.parametrize(
    "altered",
    [
        lambda data: b"",
        lambda data: data[:40],
        lambda data: b"\xff" * len(data),
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: data[len(data) // 2 :] + data,
    ],
    ids=["empty", "cut", "garbage", "bit", "shifted"],
)
def test_a_file_altered_under_a_running_node_is_named(chain, path, altered):
    path.write_bytes(altered(path.read_bytes()))
    with pytest.raises(StateError, match=r"SK-DSK-002.*no longer holds commit"):
        chain[NAMES[0]]


def test_a_file_that_is_gone_is_named(chain, path):
    path.unlink()
    with pytest.raises(StateError, match="SK-DSK-002"):
        chain[NAMES[0]]
