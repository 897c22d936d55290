"""The timeline: what failed, what came back, and after how long."""

import json

import pytest

from skerry.node.page.happenings import Happenings
from skerry.node.page.lines import read_line
from skerry.node.page.models import TimelineEntry
from skerry.protocol.ids import short

PEER = "12D3KooWpeer77"


class Log:
    """Feeds lines to a timeline, and keeps the newest form of each entry."""

    def __init__(self, entries: tuple[TimelineEntry, ...] = ()) -> None:
        self.timeline = Happenings(entries)
        self.entries = {entry.id: entry for entry in entries}

    def add(self, time: float, event: str, **details: object) -> list[TimelineEntry]:
        line = read_line(json.dumps({"time": time, "event": event, **details}))
        found = self.timeline.take(line)
        self.entries |= {entry.id: entry for entry in found}
        return found

    @property
    def newest(self) -> TimelineEntry:
        return self.entries[max(self.entries)]


def test_peer_that_comes_back_is_one_entry_with_how_long_it_was_away() -> None:
    log = Log()
    log.add(1.0, "peer-up", peer=PEER)
    log.add(10.0, "peer-down", peer=PEER)
    assert (log.newest.kind, log.newest.severity, log.newest.recovery_s) == (
        "peer-down",
        "error",
        None,
    )
    (back,) = log.add(14.5, "peer-up", peer=PEER)
    assert (back.id, back.severity, back.recovery_s) == (log.newest.id, "recovered", 4.5)
    assert [entry.kind for entry in log.entries.values()] == ["peer-up", "peer-down"]


def test_why_a_peer_was_given_up_is_told_beside_its_silence() -> None:
    log = Log()
    log.add(10.0, "peer-down", peer=PEER)
    (dead,) = log.add(15.0, "peer-dead", peer=PEER, evidence=["closed: gone (x)", "silent: 9 s"])
    assert (dead.kind, dead.severity, dead.peer) == ("peer-dead", "warning", PEER)
    assert dead.text.endswith("others get its stages: silent: 9 s")
    (back,) = log.add(30.0, "peer-up", peer=PEER)
    assert (back.kind, back.recovery_s) == ("peer-down", 20.0)


def test_peer_that_left_does_not_recover() -> None:
    log = Log()
    log.add(1.0, "peer-left", peer=PEER)
    (back,) = log.add(2.0, "peer-up", peer=PEER)
    assert (back.kind, back.severity) == ("peer-up", "info")


def test_peer_that_was_down_before_a_restart_of_the_page_still_recovers() -> None:
    log = Log()
    log.add(10.0, "peer-down", peer=PEER)
    again = Log(tuple(log.entries.values()))
    (back,) = again.add(12.0, "peer-up", peer=PEER)
    assert (back.id, back.recovery_s) == (log.newest.id, 2.0)
    (other,) = again.add(13.0, "peer-up", peer="12D3KooWnew")
    assert other.id == back.id + 1


def test_compute_process_is_mended_when_the_node_is_in_step_again() -> None:
    log = Log()
    log.add(10.0, "compute-lost")
    log.add(10.0, "warning", text="the compute process ended; it is being restarted")
    assert len(log.entries) == 1
    assert log.add(12.0, "compute-ready") == log.add(12.0, "phase", phase="loading", round=2) == []
    log.add(13.0, "phase", phase="training", round=2)
    assert (log.newest.kind, log.newest.recovery_s) == ("compute-died", 3.0)


def test_daemon_that_was_killed_says_how_long_it_was_away() -> None:
    log = Log()
    log.add(1.0, "started")
    log.add(2.0, "entered", run="r", name="n")
    log.add(60.0, "started")
    assert log.newest.severity == "warning" and "58 s" in log.newest.text
    log.add(61.0, "entered", run="r", name="n")
    log.add(65.0, "phase", phase="training", round=2)
    mended = [entry for entry in log.entries.values() if entry.recovery_s is not None]
    assert [(entry.kind, entry.recovery_s) for entry in mended] == [("daemon-started", 5.0)]


def test_daemon_that_was_stopped_comes_back_without_a_warning() -> None:
    log = Log()
    for event in ("started", "stopped", "started"):
        log.add(1.0, event)
    assert {entry.severity for entry in log.entries.values()} == {"info"}


VIEW = {"round": 4, "view": 1, "leader": "b", "passed_over": "a"}


@pytest.mark.parametrize(
    ("event", "details", "kind", "severity"),
    [
        ("view", VIEW, "view-change", "warning"),
        ("diverged", {"round": 4, "mine": "a", "agreed": "b"}, "diverged", "error"),
        ("state-downloaded", {"bytes": 12}, "state-downloaded", "info"),
        ("healing", {"text": "block.3 lost"}, "healing", "warning"),
        ("healed", {"text": "block.3 trains again", "seconds": 2.1}, "healed", "info"),
        ("planned", {"round": 4, "rings": [["a", "b"], ["c"]], "spares": ["d"]}, "planned", "info"),
        ("slow", {"round": 4, "peer": PEER, "times": 2.25}, "slow", "warning"),
        ("warning", {"text": "mind the gap"}, "warning", "warning"),
        ("failed", {"text": "the run has failed"}, "warning", "error"),
        ("compute-failed", {"error": "SK-CMP-001"}, "warning", "error"),
        ("paused", {}, "paused", "info"),
        ("left", {}, "run-left", "info"),
        ("removed", {"round": 3, "peer": PEER, "reason": "slow"}, "peer-removed", "warning"),
        ("readmitted", {"round": 3, "peer": PEER}, "peer-readmitted", "info"),
        ("outer-lr", {"round": 3, "outer_lr": 0.5}, "outer-lr", "info"),
        ("outer-lr", {"round": 3, "outer_lr": None}, "outer-lr", "info"),
    ],
)
def test_what_happens_is_told_by_kind(event, details, kind, severity) -> None:
    log = Log()
    (entry,) = log.add(1.0, event, **details)
    assert (entry.kind, entry.severity) == (kind, severity)


def test_peer_that_is_removed_while_it_is_down_is_not_waited_for() -> None:
    log = Log()
    log.add(10.0, "peer-down", peer=PEER)
    log.add(11.0, "removed", peer=PEER, round=3)
    assert log.newest.text.endswith("no reason given")
    (back,) = log.add(20.0, "peer-up", peer=PEER)
    assert back.kind == "peer-up"


def test_same_refusal_is_told_once_in_a_while() -> None:
    log = Log()
    for time in (1.0, 2.0, 300.0, 700.0):
        log.add(time, "refused", peer=PEER, reason="size")
    log.add(701.0, "refused", peer=PEER, reason="hash")
    assert [entry.time for entry in log.entries.values()] == [1.0, 700.0, 701.0]


def test_a_source_of_false_parameters_is_named() -> None:
    (entry,) = Log().add(1.0, "refused", peer=PEER, reason="false-state")
    assert (entry.peer, entry.severity) == (PEER, "warning")
    assert entry.text == f"{short(PEER)} sent false parameters; they come from others"


def test_words_of_others_are_one_short_line() -> None:
    log = Log()
    (entry,) = log.add(1.0, "refused", peer=PEER, reason="x\n<script>" + "y" * 1000)
    assert len(entry.text) <= 300 and "\n" not in entry.text
