"""The round upon ``at``: begun, gone on with after a restart, trained in, and left."""

from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.state import Phase, RoundState

ROUND = {Phase.TRAINING, Phase.ENCODING, Phase.COLLECTING}
"""This peer takes part in the round upon ``at``."""


def enter(s: RoundState, phase: Phase, now: float) -> None:
    """Change the phase and note since when."""
    if s.phase is not phase:
        s.phase, s.phase_since = phase, now


def begin_round(s: RoundState, now: float) -> list[Action]:
    """Begin the round upon ``at``, or go on with it where it was left."""
    if s.finished:
        enter(s, Phase.DONE, now)
        return []
    if s.paused:
        enter(s, Phase.PAUSED, now)
        return []
    if s.head is None:
        enter(s, Phase.WAITING, now)
        return []
    if s.me not in s.roster:
        enter(s, Phase.OBSERVING, now)
        return [act.Present()]
    if s.training:
        enter(s, Phase.TRAINING, now)
        return encode_trained(s, now) if s.trained else []
    if s.encoding == s.at:
        enter(s, Phase.ENCODING, now)
        return []
    sent = s.own or s.history.get(s.at)
    announce = sent.message if sent else s.unsent.get(s.at)
    if announce is not None:
        enter(s, Phase.COLLECTING, now)
        return [act.PublishAnnounce(announce)]
    enter(s, Phase.TRAINING, now)
    s.training, s.trained, s.finishing = True, False, False
    s.idle.discard(s.me)
    assert s.held is not None
    s.starts[s.at] = s.held
    readers = s.hosts.readers(s.roster)
    slot = readers.index(s.me) if s.me in readers else 0
    return [act.Train(s.round, s.at, s.head.cursor, slot, len(readers))]


def encode_trained(s: RoundState, now: float) -> list[Action]:
    """Turn the finished inner steps into a contribution."""
    s.training, s.encoding = False, s.at
    enter(s, Phase.ENCODING, now)
    return [act.Encode(s.at, send=True)]


def leave_round(s: RoundState) -> list[Action]:
    """Keep what was trained upon ``at`` as error feedback before the parameters change."""
    if not s.training:
        return []
    s.training = False
    return [act.FinishTraining(), act.Encode(s.at, send=False)]


def reset_round(s: RoundState, now: float) -> None:
    """Forget what was heard of the round before."""
    s.round_at, s.round_since, s.view, s.view_since = s.at, now, 0, now
    s.own, s.complete_since, s.published_view = None, None, None
    s.began_late, s.rehosting = s.rehosting, False
    s.rejoined = -1 if s.began_late else 0
    s.resent_at = now
    s.unheard = set(s.roster) - s.alive - s.lost - {s.me}
    s.announces, s.arrived, s.sound, s.unsound = {}, {}, set(), set()
    s.vetted, s.vetting, s.idle = set(), set(), set()


def evaluate(s: RoundState) -> list[Action]:
    """Measure the validation loss of the state after ``at``, if it is due."""
    done = s.chain.round_of(s.at)
    due = done >= 0 and (done % s.rules.validation_every == 0 or s.finished)
    whole = s.hosting is None
    return [act.Evaluate(done)] if due and whole and s.round_at != s.at else []
