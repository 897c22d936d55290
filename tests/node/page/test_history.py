"""The file of the history: bounded, whole after a restart, set aside when damaged."""

import sqlite3
import time

import page_world
import pytest

from skerry.node.page.history import SCHEMA_VERSION, Batch, History, Limits
from skerry.node.page.lines import committed_line
from skerry.node.page.models import TimelineEntry
from skerry.node.page.waterfall import Waterfall


def row(number: int, **changes: object):
    rows = Waterfall("me", 100)
    details = {"round": number, "view": 0, "commit": f"c{number}", "parent": "p", "leader": "me"}
    nothing = {"included": [], "late": [], "text_tokens": 0, "total_text_tokens": 0}
    rows.take_from_chain(committed_line({**details, **nothing}))
    return rows.rows[number].model_copy(update=changes)


def entry(number: int, **changes: object) -> TimelineEntry:
    fields = {"id": number, "time": 1.0, "kind": "peer-down", "severity": "error", "peer": "p"}
    rest = {"round": None, "text": "gone", "recovery_s": None}
    return TimelineEntry(**{**fields, **rest, **changes})


def line(number: int, at: float | None = None) -> tuple[int, float, str]:
    at = time.time() if at is None else at
    return (number, at, f'{{"time": {at}, "event": "note", "text": "{number}"}}')


@pytest.fixture
async def reopen(tmp_path):
    """Open the same file again and again; all are closed."""
    opened: list[History] = []

    async def again(**limits: object):
        if opened:
            await opened.pop().close()
        history, found = await History.open(tmp_path / "h.sqlite", Limits(**limits))
        opened.append(history)
        return history, found

    yield again
    for history in opened:
        await history.close()


async def test_new_file_remembers_nothing(reopen) -> None:
    _, found = await reopen()
    assert (found.rounds, found.timeline, found.last_id, found.note) == ((), (), 0, "")
    assert found.past.started_at is None


async def test_what_was_written_is_there_again(reopen) -> None:
    history, _ = await reopen(log_age_s=1e12)
    rows = {n: row(n, started_at=10.0 + n) for n in (1, 2)}
    rows[2] = rows[2].model_copy(update={"val_loss": 2.5})
    history.write(Batch(rows, {1: entry(1)}, [line(1, 5.0), line(2, 6.0)]))
    _, found = await reopen(log_age_s=1e12)
    assert found.rounds == tuple(rows.values())
    assert found.timeline == (entry(1),)
    assert (found.last_id, found.last_time) == (2, 6.0)
    assert found.last_lines == {line(2, 6.0)[2]}
    assert (found.past.started_at, found.past.val_loss, found.past.val_loss_round) == (11.0, 2.5, 2)


async def test_later_row_replaces_the_earlier(reopen) -> None:
    history, _ = await reopen()
    history.write(Batch({1: row(1)}))
    history.write(Batch({1: row(1, val_loss=1.0)}, {1: entry(1)}))
    history.write(Batch({}, {1: entry(1, severity="recovered", recovery_s=3.0)}))
    rows, more = await history.rounds(None, 10)
    assert ([r.val_loss for r in rows], more) == ([1.0], False)
    assert [e.severity for e in await history.timeline(10)] == ["recovered"]


async def test_rows_and_lines_are_bounded_by_number(reopen) -> None:
    history, _ = await reopen(rounds=10, timeline=5, log=20)
    for number in range(1, 302):  # pruned now and then, the last time in the last batch
        lines = [line(number)]
        history.write(Batch({number: row(number)}, {number: entry(number)}, lines))
    rows, more = await history.rounds(None, 500)
    assert ([r.round for r in rows], more) == (list(range(292, 302)), False)
    assert [e.id for e in await history.timeline(500)] == list(range(297, 302))
    assert [e.id for e in await history.log(None, 500)] == list(range(282, 302))


async def test_lines_are_bounded_by_age(reopen) -> None:
    history, _ = await reopen(log_age_s=60.0)
    history.write(Batch({}, {}, [line(1, time.time() - 120), line(2)]))
    assert [e.id for e in await history.log(None, 10)] == [2]


async def test_file_does_not_grow_without_end(reopen, tmp_path) -> None:
    history, _ = await reopen(rounds=10, timeline=10, log=10)
    sizes = []
    for part in range(4):
        for number in range(1 + 500 * part, 501 + 500 * part):
            history.write(Batch({number: row(number)}, {}, [line(number)]))
        await history.log(None, 1)
        sizes.append((tmp_path / "h.sqlite").stat().st_size)
    assert sizes[3] <= 2 * max(sizes[0], 65536)


@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\0" + b"x" * 999]
)
async def test_damaged_file_is_set_aside(reopen, tmp_path, content) -> None:
    (tmp_path / "h.sqlite").write_bytes(content)
    history, found = await reopen()
    assert "set aside" in found.note
    assert (tmp_path / "h.sqlite.damaged").read_bytes() == content
    history.write(Batch({1: row(1)}))
    assert len((await history.rounds(None, 10))[0]) == 1


@pytest.mark.parametrize(
    "change",
    [
        f"PRAGMA user_version = {SCHEMA_VERSION + 1}",
        "UPDATE rounds SET body = '{}'",
        "DROP TABLE log; CREATE TABLE log (other TEXT)",
    ],
)
async def test_file_of_another_shape_is_set_aside(reopen, tmp_path, change) -> None:
    history, _ = await History.open(tmp_path / "h.sqlite")
    history.write(Batch({1: row(1)}, {}, [line(1)]))
    await history.close()
    with sqlite3.connect(tmp_path / "h.sqlite") as database:
        database.executescript(change)
    database.close()
    _, found = await reopen()
    assert "set aside" in found.note
    assert found.rounds == ()
    assert (tmp_path / "h.sqlite.damaged").exists()


async def test_disk_that_fails_ends_the_recording_and_nothing_else(tmp_path) -> None:
    history, found = await History.open(tmp_path / "missing" / "h.sqlite")
    assert history.failure and found.rounds == ()
    history.write(Batch({1: row(1)}))
    assert await history.rounds(None, 10) == ((), False)
    assert await history.log(None, 10) == ()
    await history.close()


async def test_file_that_is_taken_away_while_open_is_told_once(reopen, caplog) -> None:
    history, _ = await reopen()
    history.write(Batch({1: row(1)}))
    await history._run(lambda: history._database.execute("DROP TABLE rounds"))
    history.write(Batch({2: row(2)}))
    history.write(Batch({3: row(3)}))
    await history.rounds(None, 1)
    assert "no longer kept" in history.failure
    assert len([r for r in caplog.records if "no longer kept" in r.getMessage()]) == 1


async def test_page_goes_on_without_its_history(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("skerry.node.page.chronicle.HISTORY_FILE", "missing/h.sqlite")
    async with page_world.page_world(trained, tmp_path) as page, page.client() as client:
        rounds = (await client.get("/api/v1/rounds")).json()["rounds"]
        assert [r["round"] for r in rounds] == [0, 1, 2, 3]
        run = (await client.get("/api/v1/run")).json()["run"]
        assert "no longer kept" in run["warning"]
        assert (await client.get("/api/v1/timeline")).json()["entries"]
