"""Rounds folded from lines of the log."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.page.lines import committed_line, read_line
from skerry.node.page.round import Round
from skerry.node.page.waterfall import KEPT_ROWS, Waterfall

ME, OTHER, THIRD = "12D3KooWme", "12D3KooWother", "12D3KooWthird"
BYTES = {"sent": {"payload": 0}, "received": {}}


class Log:
    """Feeds lines to a waterfall."""

    def __init__(self, *roster: str) -> None:
        self.rows = Waterfall(ME, 1000)
        self.roster = list(roster or (ME, OTHER))

    def add(self, time: float, event: str, **details: object) -> set[int]:
        line = read_line(json.dumps({"time": time, "event": event, **details}))
        assert line is not None, (event, details)
        return self.rows.take(line)

    def began(self, time: float, number: int, **bytes_: object) -> set[int]:
        details = {"parent": f"c{number - 1}", "leader": OTHER, "roster": self.roster}
        return self.add(time, "began", round=number, **details, **{**BYTES, **bytes_})

    def phase(self, time: float, phase: str, number: int) -> set[int]:
        return self.add(time, "phase", phase=phase, round=number)

    def announced(self, time: float, peer: str, number: int = 1, **changes: object) -> set[int]:
        figures = {"text_tokens": 10, "loss": 2.0, "bytes": 50, **changes}
        return self.add(time, "announced", round=number, peer=peer, **figures)

    def committed(
        self, time: float, number: int = 1, *included: str, **changes: object
    ) -> set[int]:
        parts = [{"peer": p, "text_tokens": 10, "loss": 2.0, "bytes": 50} for p in included]
        late = [p for p in self.roster if p not in included]
        details = {"round": number, "view": 0, "commit": f"c{number}", "parent": f"c{number - 1}"}
        tokens = {"text_tokens": 10 * len(parts), "total_text_tokens": 1000}
        rest = {"leader": OTHER, "included": parts, "late": late, **tokens}
        return self.add(time, "committed", **{**details, **rest, **changes})

    def round(self, start: float, number: int) -> None:
        """One round of two peers that takes ten seconds."""
        self.began(start, number)
        self.phase(start, "training", number)
        self.phase(start + 5, "encoding", number)
        self.phase(start + 6, "collecting", number)
        self.announced(start + 6, ME, number)
        self.announced(start + 8, OTHER, number)
        self.committed(start + 8.5, number, ME, OTHER)
        self.phase(start + 8.5, "fetching", number)
        self.phase(start + 9, "applying", number)
        self.add(start + 10, "applied", round=number, digest=f"d{number}")

    def __getitem__(self, number: int) -> Round:
        return self.rows.rows[number]


def test_a_round_is_its_phases_one_after_the_other() -> None:
    log = Log()
    log.round(100.0, 1)
    row = log[1]
    spans = [(span.name, span.start_s, span.duration_s) for span in row.spans]
    assert spans == [
        ("training", 0, 5),
        ("encoding", 5, 1),
        ("collecting", 6, 2.5),
        ("fetching", 8.5, 0.5),
        ("applying", 9, 1),
    ]
    assert (row.commit_s, row.fetch_s, row.apply_s, row.duration_s) == (8.5, 0.5, 1, 10)
    assert (row.digest, row.text_tokens, row.payload_bytes, row.dense_bytes) == (
        "d1",
        20,
        100,
        2000,
    )


def test_waiting_names_who_was_waited_for_longest_first() -> None:
    log = Log(ME, OTHER, THIRD)
    log.began(0.0, 1)
    log.phase(0.0, "training", 1)
    log.phase(1.0, "collecting", 1)
    log.announced(1.0, ME)
    log.announced(2.0, OTHER)
    assert [(w.peer, w.duration_s) for w in log[1].waited] == [(OTHER, 1.0)]
    log.committed(6.0, 1, ME, OTHER)
    waited = [(w.peer, w.duration_s) for w in log[1].waited]
    assert waited == [(THIRD, 5.0), (OTHER, 4.0)]  # the leader's commit came 4 s after it could
    late = {part.peer: (part.included, part.late) for part in log[1].contributions}
    assert late == {ME: (True, False), OTHER: (True, False), THIRD: (False, True)}


def test_open_span_grows_with_time() -> None:
    log = Log()
    log.began(10.0, 1)
    log.phase(11.0, "training", 1)
    assert log.rows.live(1, 14.0).spans[-1].duration_s == 3.0
    assert log[1].duration_s is None
    log.phase(15.0, "encoding", 1)
    assert log.rows.live(1, 20.0).spans[0].duration_s == 4.0


def test_mean_loss_is_weighted_by_text_tokens() -> None:
    log = Log()
    log.began(0.0, 1)
    parts = [
        {"peer": ME, "text_tokens": 30, "loss": 1.0, "bytes": 1},
        {"peer": OTHER, "text_tokens": 10, "loss": 3.0, "bytes": 1},
    ]
    log.committed(1.0, 1, included=parts)
    assert log[1].loss == pytest.approx(1.5)


def test_refused_contribution_says_why() -> None:
    log = Log()
    log.began(0.0, 1)
    log.announced(1.0, OTHER)
    log.add(2.0, "checked", round=1, peer=OTHER, reason="size")
    part = next(p for p in log[1].contributions if p.peer == OTHER)
    assert (part.announced_s, part.checked_s, part.refused) == (1.0, 2.0, "size")


def test_bytes_of_a_round_are_the_growth_of_the_totals() -> None:
    log = Log()
    log.began(0.0, 1, sent={"payload": 100}, received={})
    log.committed(1.0, 1, ME)
    log.began(2.0, 2, sent={"payload": 150, "control": 7}, received={"payload": 5})
    assert (log[1].sent, log[1].received) == ({"control": 7, "payload": 50}, {"payload": 5})
    log.add(3.0, "ended", sent={"payload": 151, "control": 7}, received={"payload": 6})
    assert log[2].sent == {"control": 0, "payload": 1}


def test_bytes_begin_anew_with_the_daemon() -> None:
    log = Log()
    log.began(0.0, 1, sent={"payload": 100})
    log.add(1.0, "started")
    log.began(2.0, 2, sent={"payload": 3})
    assert log[1].sent == {}


def test_round_that_is_begun_again_has_the_times_of_the_second_attempt() -> None:
    log = Log()
    log.began(0.0, 1)
    log.phase(0.0, "training", 1)
    log.announced(1.0, OTHER)
    log.add(5.0, "started")
    log.add(5.0, "entered", run="r")
    log.phase(6.0, "loading", 0)
    log.round(100.0, 1)
    assert log[1].started_at == 100.0
    assert [span.start_s for span in log[1].spans] == [0, 5, 6, 8.5, 9]
    assert log[1].duration_s == 10


def test_finished_round_is_not_stretched_by_a_restart() -> None:
    log = Log()
    log.round(0.0, 1)
    before = log[1]
    log.phase(1000.0, "fetching", 1)
    log.phase(1001.0, "applying", 1)
    log.add(1002.0, "applied", round=1, digest="d1")
    assert log[1] == before


def test_peer_that_joins_later_did_not_wait_in_round_0() -> None:
    log = Log()
    log.phase(50.0, "loading", 0)
    log.phase(60.0, "observing", 7)
    log.began(61.0, 7)
    assert (log[0].started_at, log[0].spans) == (None, ())


def test_leader_that_is_passed_over_is_replaced() -> None:
    log = Log()
    log.began(0.0, 1)
    log.add(9.0, "view", round=1, view=1, leader=ME, passed_over=OTHER)
    assert (log[1].view, log[1].leader) == (1, ME)


def test_other_commit_of_a_round_replaces_the_first() -> None:
    log = Log()
    log.round(0.0, 1)
    log.committed(20.0, 1, ME, commit="fork", text_tokens=10)
    assert (log[1].commit, log[1].text_tokens) == ("fork", 10)
    assert {p.peer for p in log[1].contributions if p.late} == {OTHER}


def test_commit_that_comes_again_changes_nothing() -> None:
    log = Log()
    log.round(0.0, 1)
    assert log.committed(20.0, 1, ME, OTHER) == set()


def test_only_the_newest_rows_are_kept() -> None:
    log = Log()
    for number in range(1, KEPT_ROWS + 10):
        log.round(10.0 * number, number)
    assert sorted(log.rows.rows) == list(range(10, KEPT_ROWS + 10))
    assert log.add(9e9, "validated", round=1, loss=1.0) == set()


def test_rows_from_the_chain_have_no_times() -> None:
    rows = Waterfall(ME, 1000)
    part = {"peer": OTHER, "text_tokens": 4, "loss": 2.0, "bytes": 5}
    details = {"round": 3, "view": 1, "commit": "c", "parent": "p", "leader": OTHER}
    tokens = {"text_tokens": 4, "total_text_tokens": 12}
    assert rows.take_from_chain(
        committed_line({**details, "included": [part], "late": [ME], **tokens})
    ) == {3}
    row = rows.rows[3]
    assert (row.started_at, row.commit_s, row.duration_s) == (None, None, None)
    assert (row.text_tokens, row.loss, row.view) == (4, 2.0, 1)


_TIMES = st.floats(0, 1e10)
_NUMBERS = st.integers(0, 4)
_PEERS = st.sampled_from([ME, OTHER, THIRD])
_PHASES = st.sampled_from(["training", "collecting", "applying", "done", "paused", "strange"])
_CALLS = st.one_of(
    st.tuples(st.just("began"), _TIMES, _NUMBERS),
    st.tuples(st.just("phase"), _TIMES, _PHASES, _NUMBERS),
    st.tuples(st.just("announced"), _TIMES, _PEERS, _NUMBERS),
    st.tuples(st.just("committed"), _TIMES, _NUMBERS, _PEERS),
    st.tuples(st.just("round"), _TIMES, _NUMBERS),
)


@given(st.lists(_CALLS, max_size=30))
def test_lines_in_any_order_give_rows_that_can_be_stored(calls) -> None:
    log = Log()
    for name, *arguments in calls:
        getattr(log, name)(*arguments)
    for row in log.rows.rows.values():
        assert Round.model_validate_json(row.model_dump_json()) == row
