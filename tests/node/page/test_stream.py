"""The event stream: what a reader is given at first, afterwards, and when it comes back."""

import asyncio

import page_world
import pytest
from page_world import pieces

from skerry.node.page import models as md
from skerry.node.page.round import Round


async def take(page, after: int | None, *wanted: str, may_join: bool = False):
    """Read until one event of each kind has come."""
    found = []
    stream = page.streams.read(after, may_join)
    async with asyncio.timeout(page_world.PATIENCE_S):
        async for text in stream:
            found += pieces(text)
            if set(wanted) <= {piece["event"] for piece in found}:
                break
    await stream.aclose()
    return found


def ids(found) -> list[int]:
    return [piece["id"] for piece in found if piece["event"] == "log"]


async def test_reader_gets_the_state_at_once(page) -> None:
    found = await take(page, None, "run", "peers")
    assert [piece["event"] for piece in found] == ["run", "peers"]
    md.RunAnswer.model_validate(found[0]["data"])
    md.PeersAnswer.model_validate(found[1]["data"])


async def test_join_command_is_for_those_who_may_invite(page) -> None:
    for may_join in (False, True):
        found = await take(page, None, "run", may_join=may_join)
        assert (found[0]["data"]["run"]["join_command"] is not None) is may_join


async def test_reader_that_comes_back_misses_nothing_and_gets_nothing_twice(page) -> None:
    newest = page.chronicle.last_id
    first = await take(page, 0, "log")
    while ids(first)[-1] < newest:
        first += await take(page, ids(first)[-1], "log")
    assert ids(first) == list(range(1, newest + 1))
    page.journal.write("note", text="later")
    later = await take(page, newest, "log")
    assert ids(later) == [newest + 1]
    assert later[-1]["data"]["text"] == "text=later"


async def test_lines_out_of_memory_come_from_the_history(page) -> None:
    newest = page.chronicle.last_id
    page.chronicle._recent.log.clear()
    found = await take(page, newest - 3, "log")
    assert ids(found) == [newest - 2, newest - 1, newest]


async def test_reader_of_another_history_is_told_of_the_gap(page) -> None:
    newest = page.chronicle.last_id
    found = await take(page, newest + 1000, "gap")
    assert found[-1]["data"] == {"after": newest + 1000, "next": newest + 1}


async def test_lines_that_are_no_longer_kept_are_a_gap(page) -> None:
    await page.chronicle.log(None, 1)  # all is written
    database = page.chronicle.history
    await database._run(lambda: database._database.execute("DELETE FROM log WHERE id < 10"))
    page.chronicle._recent.log.clear()
    found = await take(page, 3, "log")
    gap = next(piece["data"] for piece in found if piece["event"] == "gap")
    assert gap == {"after": 3, "next": 10}
    assert ids(found)[0] == 10


async def test_changes_come_with_the_rows_they_change(page) -> None:
    stream = page.streams.read(None, False)
    await anext(stream)
    page.journal.write("validated", round=3, loss=1.25)
    page.journal.write("peer-down", peer="12D3KooWgone")
    found = {piece["event"]: piece for piece in pieces(await anext(stream))}
    await stream.aclose()
    row = Round.model_validate(found["round"]["data"])
    assert (row.round, row.val_loss) == (3, 1.25)
    entry = md.TimelineEntry.model_validate(found["timeline"]["data"])
    assert (entry.kind, entry.peer) == ("peer-down", "12D3KooWgone")
    assert found["log"]["id"] == page.chronicle.last_id


async def test_slow_reader_holds_up_nobody_and_gets_the_newest_row(page) -> None:
    slow = page.streams.read(None, False)
    await anext(slow)
    for number in range(50):
        page.journal.write("validated", round=3, loss=float(number))
    quick = await take(page, None, "run")
    assert quick
    found = pieces(await anext(slow))
    await slow.aclose()
    rows = [piece["data"]["val_loss"] for piece in found if piece["event"] == "round"]
    assert rows == [49.0]
    assert len(ids(found)) == 50


async def test_stream_ends_when_the_run_is_left(page) -> None:
    stream = page.streams.read(None, False)
    await anext(stream)
    page.daemon.part.member = None
    page.journal.write("left", name="small")
    async with asyncio.timeout(page_world.PATIENCE_S):
        rest = [text async for text in stream]
    assert [piece["data"]["event"] for t in rest for piece in pieces(t) if piece["id"]] in (
        ["left"],
        [],
    )
    assert page.desk.chronicle is None


async def test_stream_of_a_daemon_without_a_run_says_so(page) -> None:
    page.daemon.part.member = None
    page.journal.write("left", name="small")
    await page.left()
    found = await take(page, None, "run")
    assert found[0]["data"]["run"] is None


async def test_readers_are_counted_and_limited(page, monkeypatch) -> None:
    stream = page.streams.read(None, False)
    await anext(stream)
    assert page.streams.readers == 1
    monkeypatch.setattr("skerry.node.page.application.MAX_READERS", 1)
    async with page.client() as client:
        assert (await client.get("/api/v1/events")).status_code == 503
    await stream.aclose()
    assert page.streams.readers == 0


@pytest.mark.parametrize("given", ["-1", "1e3", "\u0663", "99999999999999999999", "x"])
async def test_id_that_is_none_is_refused(page, given) -> None:
    async with page.client() as client:
        headers = {"Last-Event-ID": given.encode()}
        assert (await client.get("/api/v1/events", headers=headers)).status_code == 422
