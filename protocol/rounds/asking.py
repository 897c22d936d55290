"""Asking others for their chain: first its end, then farther back until it meets ours.

Where the branches part is not known beforehand, and an answer holds a bounded number of commits.
Nothing here hangs on a head: rounds may be shorter than the way there and back, so that by the time
an answer is here the peer stands elsewhere.
"""

from dataclasses import dataclass, replace

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import SignedCommit
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.state import Position, Question, RoundState

_FARTHER = 4
"""How much farther back each next question goes: few questions, and little asked for twice."""
MAX_FOLLOWING = 1024
"""Questions that follow from answers: whoever answers in circles is asked no more for now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of the commits that a peer has sent."""

    source: PeerId
    first: SignedCommit
    newest_known: int
    """Round of the last one that could be taken in; -1 if none could."""


def ask(s: RoundState, peer: PeerId, head_round: int, now: float) -> list[Action]:
    """Ask a peer that stands in ``head_round`` for the end of its chain, not too often."""
    last = s.asked.get(peer)
    if last is not None and now < last.at + s.rules.grace / 2:
        return []
    reach = max(1, s.rules.replay)
    # Of two branches the heavier one may be the shorter.
    newest = min(s.chain.round_of(s.goal or s.at), head_round)
    return _ask(s, peer, Question(now, max(0, newest - reach), reach))


def go_on(s: RoundState, answer: Answer, now: float) -> list[Action]:
    """Ask for what lies before an answer whose parent is unknown, or for what follows it."""
    last, first = s.asked.get(answer.source), answer.first.message
    if last is None or first.round != last.from_round:  # not an answer to our question
        return [] if answer.newest_known >= 0 else ask(s, answer.source, first.round, now)
    if last.following >= MAX_FOLLOWING:
        return []
    if answer.newest_known < 0:
        farther = replace(last, reach=last.reach * _FARTHER)
        return _ask_next(s, answer.source, farther, last.from_round - farther.reach, now)
    position = s.positions.get(answer.source)
    # Whether it is better by now does not matter: both sides grow, and to begin anew costs more.
    if position is None or position.head in s.chain:
        return []
    return _ask_next(s, answer.source, last, answer.newest_known + 1, now)


def is_better(s: RoundState, position: Position) -> bool:
    """Say whether a peer stands at a commit that is not known here and beats where we go."""
    theirs = (position.weight, position.round, -int(position.head, 16))
    return position.head not in s.chain and theirs > s.chain.rank(s.goal or s.at)


def _ask_next(
    s: RoundState, peer: PeerId, last: Question, from_round: int, now: float
) -> list[Action]:
    following = Question(now, max(0, from_round), last.reach, last.following + 1)
    if following.from_round == last.from_round:
        return []
    return _ask(s, peer, following)


def _ask(s: RoundState, peer: PeerId, question: Question) -> list[Action]:
    s.asked[peer] = question
    return [act.AskChain(peer, question.from_round)]
