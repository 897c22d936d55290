"""The event log: kept, turned over, followed, and never in the way of the run."""

import asyncio
import json
import resource

import pytest

from skerry.node.run import journal as journal_module
from skerry.node.run.journal import Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def events(lines) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


def test_lines_are_json_with_time_and_details(path) -> None:
    Journal(path).write("trained", round=3, path=path)
    (line,) = path.read_text().splitlines()
    found = json.loads(line)
    assert found.pop("time") > 1.7e9
    assert found == {"event": "trained", "round": 3, "path": str(path)}


def test_last_gives_the_newest_oldest_first_and_survives_a_restart(path) -> None:
    journal = Journal(path)
    for name in "abc":
        journal.write(name)
    assert [events(journal.last(n)) for n in (0, 1, 2, 9)] == [[], ["c"], ["b", "c"], [*"abc"]]
    again = Journal(path)
    again.write("d")
    assert events(again.last(3)) == ["b", "c", "d"]


def test_lines_that_are_no_longer_in_memory_are_read_from_the_files(path, monkeypatch) -> None:
    monkeypatch.setattr(journal_module, "_KEPT_LINES", 3)
    monkeypatch.setattr(journal_module, "MAX_BYTES", 400)
    journal = Journal(path)
    for number in range(9):
        journal.write("e", number=number)
    assert path.with_suffix(".old.jsonl").exists()
    for count in (2, 3, 4, 6):
        numbers = [json.loads(line)["number"] for line in journal.last(count)]
        assert numbers == list(range(9 - count, 9))
    again = Journal(path)
    assert len(again._recent) == 3
    assert again.last(6) == journal.last(6)


def test_lines_that_the_disk_refused_are_newer_than_those_of_the_files(path, monkeypatch) -> None:
    monkeypatch.setattr(journal_module, "_KEPT_LINES", 3)
    journal = Journal(path)
    for number in range(5):
        journal.write("e", number=number)
    monkeypatch.setattr(Journal, "_append", lambda *given: None)  # as if the disk were full
    for number in range(5, 9):
        journal.write("e", number=number)
    numbers = [json.loads(line)["number"] for line in journal.last(6)]
    assert numbers == [2, 3, 4, 6, 7, 8]  # 5 is lost: neither written nor among the newest
    path.unlink()
    path.mkdir()
    assert [json.loads(line)["number"] for line in journal.last(6)] == [6, 7, 8]


def test_line_that_is_not_text_does_not_stop_a_start(path) -> None:
    path.write_bytes(b'{"event": "a"}\n\xff\xfe half a li')
    assert len(Journal(path).last(9)) == 2


def test_large_file_is_turned_over_once(path, monkeypatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_BYTES", 200)
    journal = Journal(path)
    for number in range(40):
        journal.write("e", number=number)
    old = path.with_suffix(".old.jsonl")
    assert old in path.parent.iterdir()
    assert set(path.parent.iterdir()) <= {path, old}
    assert all(p.stat().st_size < 300 for p in path.parent.iterdir())
    text = "".join(p.read_text() for p in (old, path) if p.exists())
    newest = [json.loads(line)["number"] for line in text.splitlines()]
    assert newest == list(range(newest[0], 40))
    assert len(journal.last(100)) == 40


async def test_follow_gives_the_newest_then_what_comes_and_ends_with_its_listener(path) -> None:
    journal = Journal(path)
    journal.write("before")
    journal.write("newest")
    following = journal.follow(1)
    assert events([await anext(following)]) == ["newest"]
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    journal.write("after")
    assert events([await waiting]) == ["after"]
    await following.aclose()
    assert journal._listeners == set()


async def test_two_listeners_get_every_line(path) -> None:
    journal = Journal(path)
    journal.write("first")
    both = [journal.follow(1), journal.follow(1)]
    for following in both:
        await anext(following)
    journal.write("a")
    journal.write("b")
    for following in both:
        assert events([await anext(following), await anext(following)]) == ["a", "b"]
        await following.aclose()


async def test_listener_that_lags_misses_lines_and_costs_no_memory(path, monkeypatch) -> None:
    monkeypatch.setattr(journal_module, "_QUEUE_LINES", 3)
    journal = Journal(path)
    journal.write("first")
    following = journal.follow(1)
    await anext(following)
    for number in range(10):
        journal.write(str(number))
    assert events([await anext(following) for _ in range(3)]) == ["0", "1", "2"]
    journal.write("now")
    assert events([await anext(following)]) == ["now"]
    await following.aclose()
    assert len(path.read_text().splitlines()) == 12


async def test_full_disk_does_not_raise_and_listeners_hear_all_the_same(path, caplog) -> None:
    path.symlink_to("/dev/full")
    journal = Journal.__new__(Journal)  # /dev/full cannot be read to its end
    journal._path, journal._listeners = path, set()
    journal._recent = journal_module.deque(maxlen=9)
    journal.write("first")
    following = journal.follow(1)
    await anext(following)
    journal.write("disk")
    assert events([await anext(following)]) == ["disk"]
    assert events(journal.last(2)) == ["first", "disk"]
    assert "no space left" in caplog.text
    await following.aclose()


def test_line_that_fits_in_part_is_left_out(path) -> None:
    """A disk that is full takes what there is room for; later lines must begin lines."""
    journal = Journal(path)
    journal.write("first")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        journal.write("second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.write("third")
    lines = path.read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["first", "third"]


def test_folder_that_is_missing_does_not_raise(tmp_path, caplog) -> None:
    journal = Journal(tmp_path / "no" / "events.jsonl")
    journal.write("a")
    assert events(journal.last(1)) == ["a"]
    assert "cannot be written" in caplog.text
