"""What healing says: what is lost, what is left, what is done where, in one plain sentence."""

import pytest
from hypothesis import given
from surveys import PEERS, TAKER, copies, survey, surveys

from skerry.recovery.healing import OLDEST_SHADOW, Rung, plan_healing
from skerry.recovery.healing_words import healed, named, sentences, unplaced
from skerry.recovery.survey import Copy, Place, Survey

A, B, *_ = PEERS
MIDDLE = ("block.4", "block.5")


def _own(age: int, number: int | None) -> dict[str, tuple[Copy, ...]]:
    return {shard: (Copy(TAKER, age, number),) for shard in MIDDLE}


def said(found: Survey) -> list[str]:
    return [text for healing in plan_healing(found) for text in sentences(healing, found)]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            survey(2, shadows=copies(MIDDLE, A, 8)),
            "block.4-5 lost with peer peer-x: no live host, shadow on peer-a is 8 steps old: "
            "restoring on peer-t, which stood by",
        ),
        (
            survey(
                2,
                place=Place.NEIGHBOUR,
                hosts={s: (Copy(A, 0), Copy(B, 0)) for s in MIDDLE},
            ),
            "block.4-5 lost with peer peer-x: live on peer-a and peer-b: "
            "copying on its neighbour peer-t",
        ),
        (
            survey(2, place=Place.JOINER),
            "block.4-5 lost with peer peer-x: no live host, no shadow: averaging block.2-3 and "
            "block.6-7 on peer-t, which has joined since",
        ),
        (
            survey(
                4,
                place=Place.MOVED,
                shadows=copies(("block.8", "block.9"), A, OLDEST_SHADOW + 1),
            ),
            "block.8-9 lost with peer peer-x: no live host, a shadow too old (1001 steps), "
            "block.6-7 is the only one beside it: copying block.6-7 "
            "on peer-t, whose own stage goes to others",
        ),
        (
            survey(4, place=Place.MEMBER, partners={3: 4, 4: 3}),
            "block.8-9 lost with peer peer-x: no live host, no shadow, block.6-7 has learned its "
            "role: copying block.6-7 on peer-t, beside another stage",
        ),
        (
            survey(2, place=Place.SAME, round=31, checkpoints=_own(600, 28)),
            "block.4-5 lost with peer peer-x: no live host, own checkpoint of round 28, "
            "3 rounds old: restoring on peer-t, which had it before",
        ),
        (
            survey(2, round=31, checkpoints=_own(20, 30)),
            "block.4-5 lost with peer peer-x: no live host, own checkpoint of round 30, "
            "1 round old: restoring on peer-t, which stood by",
        ),
        (
            survey(2, round=90, checkpoints=_own(640, None)),
            "block.4-5 lost with peer peer-x: no live host, own checkpoint at least 640 steps "
            "old: restoring on peer-t, which stood by",
        ),
    ],
)
def test_a_lost_stage_is_one_sentence(found: Survey, text: str):
    assert said(found) == [text]


def test_the_origin_has_a_sentence_for_each_rung():
    shadows = copies(("embed", "head"), A, 1)
    assert said(survey(0, shadows=shadows)) == [
        "embed, head lost with peer peer-x: no live host, shadow on peer-a is 1 step old: "
        "restoring on peer-t, which stood by",
        "block.0-1 lost with peer peer-x: no live host, no shadow, block.2-3 is the only one "
        "beside it: copying block.2-3 on peer-t, which stood by",
    ]


def test_stages_side_by_side_and_a_lost_ring_say_so():
    first, second = said(survey(1, 2))
    assert "nor a stage beside it: interpolating block.0-1 and block.6-7" in first
    assert second.startswith("block.4-5 ")
    assert "trains back in" not in first
    for text in said(survey(1, 2, bypass_steps=20)):
        assert text.endswith(
            "; it trains back in: half of the microbatches pass over it at first, "
            "none after 20 steps"
        )
    assert "nor a stage beside it: copying block.4-5" in said(survey(0, 1, stages=3))[2]
    everything = said(survey(0, 1, stages=2, shadows=copies(("block.2",), A, OLDEST_SHADOW + 1)))
    assert "no shadow, and no checkpoint: beginning from the seed" in everything[0]
    assert "shadow on peer-a is 1001 steps old: restoring" in everything[1]


@pytest.mark.parametrize(
    ("passed_over", "until"), [(True, "microbatches pass over it"), (False, "its ring waits")]
)
def test_what_no_plan_gives_to_anyone_waits_for_a_joiner(passed_over, until):
    text = unplaced(MIDDLE, A, passed_over)
    assert text == (
        "block.4-5 lost with peer peer-a: nobody here has room: waits for a joiner; "
        f"until then {until}"
    )


@given(surveys)
def test_whatever_is_lost_every_shard_is_named_once(found: Survey):
    for healing in plan_healing(found):
        heads = [text.split(" lost with peer ")[0] for text in sentences(healing, found)]
        names = [name for head in heads for name in _spelled_out(head)]
        assert sorted(names) == sorted(found.stages[healing.lost.stage])


def _spelled_out(head: str) -> list[str]:
    found = []
    for name in head.split(", "):
        first, _, last = name.removeprefix("block.").partition("-")
        run = range(int(first), int(last or first) + 1) if first.isdigit() else []
        found += [f"block.{i}" for i in run] or [name]
    return found


def test_shards_are_named_shortly():
    assert named(("embed", "block.0", "head")) == "embed, head, block.0"
    assert named(("block.1", "block.2", "block.4")) == "block.1-2, block.4"


def test_what_has_healed_tells_how_long_it_took():
    text = healed(("block.3", "block.4"), A, 2.13, Rung.SHADOW)
    assert text == "block.3-4 train again on peer-a after 2.1 s (shadow)"
    assert healed(("head",), A, 0.0, Rung.COPY).startswith("head trains again")
