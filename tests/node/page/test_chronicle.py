"""A run's chronicle: the same after a restart, made anew from the log, filled from the chain."""

import asyncio
import json

import page_world
import pytest

from skerry.node.page.chronicle import HISTORY_FILE, Chronicle
from skerry.node.run.journal import Journal


def shown(rows) -> list[str]:
    return [row.model_dump_json() for row in rows]


async def follow(chronicle: Chronicle, journal: Journal, last: str) -> asyncio.Task[None]:
    """Let it follow the log until it has taken in the newest line, of this event."""
    task = asyncio.create_task(chronicle.follow(journal))
    async with asyncio.timeout(page_world.PATIENCE_S):
        while not (lines := await chronicle.log(None, 1)) or lines[0].event != last:
            assert not task.done() or last == "left"
            await asyncio.sleep(0.001)
    return task


@pytest.fixture
async def chronicle(page, tmp_path):
    """Chronicles of the same run in a folder of their own; each call is a restart."""
    opened: list[tuple[Chronicle, asyncio.Task[None]]] = []

    async def stop() -> None:
        for known, task in opened:
            task.cancel()
            await asyncio.wait([task])
            await known.close()
        opened.clear()

    async def restart(journal: Journal, last: str) -> Chronicle:
        await stop()
        folder = tmp_path / "again"
        folder.mkdir(exist_ok=True)
        known = await Chronicle.open(page.context, folder)
        opened.append((known, await follow(known, journal, last)))
        return known

    restart.stop = stop
    yield restart
    await stop()


async def test_restart_shows_the_same_and_takes_no_line_twice(page, chronicle) -> None:
    first = await chronicle(page.journal, "entered")
    rows, _ = await first.rounds(None, 100)
    log, timeline = await first.log(None, 500), await first.timeline(100)
    second = await chronicle(page.journal, "entered")
    assert shown((await second.rounds(None, 100))[0]) == shown(rows)
    assert await second.log(None, 500) == log
    assert await second.timeline(100) == timeline


async def test_lines_that_came_while_it_was_away_are_taken_in(page, chronicle) -> None:
    first = await chronicle(page.journal, "entered")
    newest = first.last_id
    await chronicle(page.journal, "entered")
    page.journal.write("peer-down", peer="12D3KooWx")
    second = await chronicle(page.journal, "peer-down")
    assert second.last_id == newest + 1
    assert (await second.timeline(1))[0].kind == "peer-down"


async def test_damaged_history_is_made_anew_from_the_log(page, chronicle, tmp_path) -> None:
    first = await chronicle(page.journal, "entered")
    rows, _ = await first.rounds(None, 100)
    await chronicle.stop()
    (tmp_path / "again" / HISTORY_FILE).write_bytes(b"rubbish" * 1000)
    second = await chronicle(page.journal, "entered")
    assert "set aside" in second.note
    assert shown((await second.rounds(None, 100))[0]) == shown(rows)


async def test_rounds_before_this_peer_came_are_those_of_the_chain(
    page, chronicle, tmp_path
) -> None:
    context = page.context
    journal = Journal(tmp_path / "short.jsonl")
    journal.write("entered", run=context.run_id, name="small")
    rounds = context.state.rounds
    totals = {"sent": {}, "received": {}}
    began = {"round": 4, "parent": rounds.at, "leader": context.me, "roster": [context.me]}
    journal.write("began", **began, **totals)
    known = await chronicle(journal, "began")
    rows, _ = await known.rounds(None, 100)
    assert [row.round for row in rows] == [0, 1, 2, 3, 4]
    for row in rows[1:4]:
        assert row.commit and row.loss and row.text_tokens
        assert (row.started_at, row.duration_s, row.spans) == (None, None, ())


async def test_lines_of_another_run_are_not_ours(page, chronicle, tmp_path) -> None:
    journal = Journal(tmp_path / "two.jsonl")
    journal.write("entered", run="f" * 64, name="other")
    journal.write("applied", round=7, digest="d")
    journal.write("left", name="other")
    journal.write("entered", run=page.context.run_id, name="small")
    known = await chronicle(journal, "entered")
    assert [entry.event for entry in await known.log(None, 100)] == ["entered"]
    assert (await known.rounds(None, 100))[0] == ()


async def test_following_ends_when_the_run_is_left(page, tmp_path) -> None:
    folder = tmp_path / "again"
    folder.mkdir()
    context, page.daemon.part.member = page.context, None
    known = await Chronicle.open(context, folder)
    task = asyncio.create_task(known.follow(page.journal))
    await asyncio.sleep(0)
    page.journal.write("left", name="small")
    page.journal.write("stopped")
    async with asyncio.timeout(page_world.PATIENCE_S):
        await task
    assert (await known.log(None, 1))[0].event == "left"
    await known.close()
    # And also if it was left before anyone followed.
    again = await Chronicle.open(context, folder)
    async with asyncio.timeout(page_world.PATIENCE_S):
        await again.follow(page.journal)
    await again.close()


async def test_desk_follows_one_run_after_the_other(page) -> None:
    first = page.chronicle
    member, page.daemon.part.member = page.daemon.part.member, None
    page.journal.write("left", name="small")
    await page.left()
    page.daemon.part.member = member
    page.journal.write("entered", run=member.context.run_id, name="small")
    await page.taken("entered")
    assert page.chronicle is not first
    events = [entry.event for entry in await page.chronicle.log(None, 500)]
    assert events[-3:] == ["entered", "left", "entered"]
    assert json.loads(page.journal.last(1)[0])["event"] == "entered"
