"""Pausing: a peer whose user wants the machine for something else stays a member that follows.

It trains nothing, leads nothing and is waited for by nobody, but it answers, serves what it has
and applies every commit, so that it is in step when it goes on. It says so in each heartbeat;
whoever leads leaves it out of the next roster, and takes it in again like a joiner.
"""

from skerry.protocol.ids import PeerId
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.collecting import progress, start_run
from skerry.protocol.rounds.state import Phase, RoundState
from skerry.protocol.rounds.training import ROUND, begin_round, enter

_STILL = ROUND | {Phase.WAITING, Phase.OBSERVING}
"""Phases from which a pause begins at once; a move to another commit is finished first."""


def on_paused(s: RoundState, now: float) -> list[Action]:
    """Stop training; the progress so far waits for a commit, or for the end of the pause."""
    s.paused = True
    if s.phase in _STILL:
        enter(s, Phase.PAUSED, now)
    if not s.training or s.trained or s.finishing:
        return []
    s.finishing = True
    return [act.FinishTraining()]


def on_resumed(s: RoundState, now: float) -> list[Action]:
    """Go on with the round where it was left, or wait to be taken into the roster."""
    s.paused = False
    if s.phase is not Phase.PAUSED:
        return []
    # The time of the pause is not time in which anyone could have trained.
    s.round_since = s.view_since = s.resent_at = now
    return [*begin_round(s, now), *start_run(s), *progress(s, now)]


def note_rest(s: RoundState, peer: PeerId, paused: bool, now: float) -> list[Action]:
    """Take in whether another peer says that it is paused; a pause may end the wait for it."""
    if paused == (peer in s.resting):
        return []
    if not paused:
        s.resting.discard(peer)
        return []
    s.resting.add(peer)
    return progress(s, now)
