"""The bench of recovery, its seconds: what is read from event logs, and rows made of that."""

from typing import Any

import pytest

from recovery_bench.seconds import CASES, Case, Measured, row_of, seconds_table
from recovery_bench.stage_sizes import SIZES, STAGES, Setting
from recovery_bench.timeline import OWN_DISK, Event, Injury, Recovery, recovery_of

KILLED = 1000.0
LOST = Injury(KILLED, {"block.2": "victim"}, comes_back=False)


def at(seconds: float, event: str, **details: Any) -> Event:
    return {"time": KILLED + seconds, "event": event, **details}


def committed(seconds: float, number: int, *peers: str) -> Event:
    return at(seconds, "committed", round=number, included=[{"peer": peer} for peer in peers])


def healed(seconds: float, *shards: str, rung: str = "average") -> Event:
    return at(seconds, "healed", shards=list(shards), rung=rung, transfer=0.5, rebuild=2.5)


def taken_over() -> dict[str, list[Event]]:
    """A spare takes over; before the kill it had done the same for something else."""
    return {
        "origin": [
            at(1.5, "peer-down", peer="other"),
            at(2.0, "peer-suspect", peer="victim", evidence=[]),
            at(4.0, "peer-down", peer="victim"),
            at(3.5, "planned", rings=[["origin", "spare"]]),
            committed(8.0, 7, "origin"),
            committed(13.0, 8, "origin", "spare"),
        ],
        "spare": [
            healed(-5.0, "block.2", rung="copy"),
            at(-4.0, "first-step", round=3),
            at(2.5, "peer-down", peer="victim"),
            at(3.0, "planned", rings=[["origin", "body"]]),
            at(7.0, "planned", rings=[["origin", "spare"]]),
            at(6.0, "healing", text=""),
            healed(9.5, "block.2"),
            at(10.0, "first-step", round=8),
        ],
        "victim": [at(-1.0, "first-step", round=6)],
    }


def test_each_moment_of_a_recovery_is_read_where_it_happened() -> None:
    assert recovery_of(LOST, taken_over()) == Recovery(
        rung="average",
        missed_s=2.0,
        planned_s=3.5,
        given_s=6.0,
        transfer_s=0.5,
        rebuild_s=2.5,
        trains_s=10.0,
        counts_s=13.0,
    )


@pytest.mark.parametrize("missing", ["healed", "first-step", "committed"])
def test_what_is_not_over_has_no_figures(missing: str) -> None:
    logs = {
        peer: [e for e in log if e["event"] != missing or e["time"] < KILLED]
        for peer, log in taken_over().items()
    }
    assert recovery_of(LOST, logs) is None


def test_two_lost_stages_are_back_when_the_second_one_is() -> None:
    logs = taken_over()
    logs["other"] = [healed(11.0, "block.1", rung="interpolate"), at(12.0, "first-step", round=8)]
    both = Injury(KILLED, {"block.1": "gone", "block.2": "victim"}, comes_back=False)
    assert recovery_of(both, logs) is None, "no commit includes both"
    logs["origin"].append(committed(15.0, 8, "spare", "other"))
    found = recovery_of(both, logs)
    assert found is not None
    assert (found.trains_s, found.counts_s) == (12.0, 15.0)
    assert found.rung == "average, interpolate", "neither of which stands for both"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rung)
def test_what_came_back_by_another_rung_than_the_case_s_is_refused(case: Case) -> None:
    rungs = ("copy", "shadow", "average", "swap", "interpolate", "checkpoint", OWN_DISK)
    own = OWN_DISK if case.rung in ("compute", "checkpoint") else case.rung
    for rung in (*rungs, "average, interpolate"):
        found = Recovery(rung, None, None, None, 0.0, 0.0, 1.0, 2.0)
        if rung == own:
            case.check(found)
        else:
            with pytest.raises(AssertionError, match=f"{case.rung}: back by {rung}, not by {own}"):
                case.check(found)


def test_who_comes_back_trains_with_its_new_compute_process() -> None:
    logs = {
        "victim": [
            at(0.1, "first-step", round=5),
            at(0.2, "compute-lost"),
            at(4.0, "compute-ready"),
            at(5.0, "first-step", round=5),
        ],
        "origin": [committed(0.1, 4, "victim"), committed(7.0, 5, "victim", "origin")],
    }
    found = recovery_of(Injury(KILLED, {"block.2": "victim"}, comes_back=True), logs)
    assert found is not None
    assert (found.rung, found.missed_s, found.planned_s) == (OWN_DISK, 0.2, None)
    assert (found.trains_s, found.counts_s) == (5.0, 7.0)


def test_rows_name_stage_link_and_every_repeat() -> None:
    tiny, case = SIZES["tiny"], CASES[2]
    recoveries = [
        Recovery("average", missed, None, 6.0, 0.5, 2.5, trains, trains + 3)
        for missed, trains in ((2.0, 10.0), (None, 30.0), (4.0, 20.0))
    ]
    found = [Measured(one, 1.0, 2.0) for one in recoveries]
    row = row_of(case, Setting(tiny, "100mbit", 1.0), found, import_torch_s=3.0)
    assert (row.missed_s, row.planned_s, row.trains_s) == (3.0, None, 20.0)
    assert row.all_trains_s == (10.0, 30.0, 20.0)
    assert (row.stage_params, row.stage_bytes) == (tiny.params, 4 * tiny.params)
    assert row.link.endswith("100mbit") and row.rungs == ("average",)
    head, _, line = seconds_table([row])
    assert head.count("|") == line.count("|")
    assert "**20.0** (10.0, 30.0, 20.0)" in line


def test_no_member_has_room_for_two_blocks_and_one_alone_for_embedding_and_head() -> None:
    for size in SIZES.values():
        assert size.manifest().model.layers == STAGES
        origin, body = size.memory(is_origin=True), size.memory(is_origin=False)
        assert body < origin < size.memory(is_origin=True, blocks=2)
        assert body < size.memory(is_origin=False, blocks=2)
    assert SIZES["large"].params > 10_000_000
