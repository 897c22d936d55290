"""Who has ever trained, read from the chain of a run that was really trained."""

from collections.abc import Iterator

import pytest

from skerry.node.page.rosters import Rosters
from skerry.protocol.rounds.chain import Chain


async def test_everyone_who_was_in_a_roster_is_known(page) -> None:
    rounds = page.context.state.rounds
    chain = rounds.chain
    trained = {peer for name in chain.path(rounds.at) for peer in chain[name].message.roster}
    assert len(trained) == 2
    assert Rosters().read(rounds) == trained


async def test_only_new_commits_are_read(page, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, rosters = page.context.state.rounds, Rosters()
    newest = rounds.at
    rounds.at = rounds.chain[newest].message.parent
    before = rosters.read(rounds)
    walked = []
    path = Chain.path

    def counted(chain: Chain, commit) -> Iterator:
        for name in path(chain, commit):
            walked.append(name)
            yield name

    monkeypatch.setattr(Chain, "path", counted)
    rounds.at = newest
    assert rosters.read(rounds) >= before
    assert walked == [newest, rounds.chain[newest].message.parent]
