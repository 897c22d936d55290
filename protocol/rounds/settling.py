"""What became of own contributions, as the chain now says: the error feedback must follow it."""

from skerry.protocol.compute import Verdict
from skerry.protocol.ids import CommitHash
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.state import RoundState


def settle(s: RoundState) -> list[Action]:
    """Tell the error feedback what changed in the fate of own contributions."""
    included: dict[CommitHash, bool] = {}
    oldest = min(map(s.chain.round_of, s.history), default=0)
    for name in s.chain.path(s.at):
        commit = s.chain[name].message
        if commit.round <= oldest:
            break
        included[commit.parent] = any(a.signer == s.me for a in commit.announces)
    news = {p: included.get(p, False) for p in s.history if p != s.at}
    changed = {p: fate for p, fate in news.items() if s.verdicts.get(p) != fate}
    s.verdicts = news
    verdicts = tuple(Verdict(parent, fate) for parent, fate in sorted(changed.items()))
    return [act.Settle(verdicts)] if verdicts else []


def forget_settled(s: RoundState) -> None:
    """Forget own contributions too old to change; what became of them must be on disk by now."""
    horizon = s.chain.round_of(s.at) - 2 * s.rules.replay
    for parent in [p for p in s.verdicts if s.chain.round_of(p) < horizon - 1]:
        s.history.pop(parent, None)
        s.unsent.pop(parent, None)
    for parent in [p for p in s.starts if s.chain.round_of(p) < horizon - 1]:
        del s.starts[parent]
