"""What a round has trained, from the results of its tasks."""

from dataclasses import replace

import pytest

from skerry.pipeline.stages.round_tally import RoundTally
from skerry.pipeline.stages.tasks import Begun, Place, Scored, StageStep, StageVisits, Stepped


def scored(microbatch: int, attempt: int, loss: float) -> Scored:
    place = Place(microbatch, attempt, 0)
    return Scored(place=place, loss=loss, text_tokens=10, gradients=b"", bytes_in_flight=0)


def stepped(*stages: StageStep) -> Stepped:
    return Stepped(step=0, stages=stages, forgotten=0, bytes_in_flight=0)


def stage(number: int, *microbatches: int, reason: str = "") -> StageStep:
    visits = StageVisits(number, microbatches)
    return StageStep(visits, 10 * len(microbatches), norm=1.0, reason=reason)


def told(*results) -> RoundTally:
    tally = RoundTally()
    for result in results:
        tally.add(result)
    return tally


def test_a_microbatch_tried_twice_has_its_last_loss():
    tally = told(
        scored(0, 1, 70.0), scored(1, 1, 30.0), scored(0, 2, 50.0), stepped(stage(0, 0, 1))
    )
    assert (tally.text_tokens, tally.loss) == (20, 4.0)


def test_only_what_was_stepped_with_counts():
    tally = told(scored(0, 1, 30.0), scored(1, 1, 99.0), stepped(stage(0, 0)))
    assert (tally.text_tokens, tally.loss) == (10, 3.0)
    for reason in ("visits", "non-finite"):
        tally = told(scored(0, 1, 30.0), stepped(stage(0, 0, reason=reason)))
        assert (tally.text_tokens, tally.loss) == (0, 0.0)


def test_the_stage_that_saw_most_counts_for_its_peer():
    assert told(stepped(stage(1, 0, 1), stage(2, 0, 1, 2))).text_tokens == 30


def test_norms_are_the_root_mean_square_of_the_steps_that_were_taken():
    first = replace(stage(1, 0), shard_norms={"block.0": 3.0, "block.1": 1.0})
    second = replace(stage(1, 0), shard_norms={"block.0": 4.0, "block.1": 1.0})
    tally = told(stepped(first), stepped(stage(1, reason="idle")), stepped(second))
    assert tally.norms == pytest.approx({"block.0": 12.5**0.5, "block.1": 1.0})


@pytest.mark.parametrize("between", [Begun(step=1, bytes_in_flight=0), stepped()])
def test_losses_of_another_step_are_forgotten(between):
    tally = told(scored(0, 1, 50.0), between)
    with pytest.raises(KeyError):
        tally.add(stepped(stage(0, 0)))
