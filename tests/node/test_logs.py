"""Log files that other processes hold open: bounded, and none of them notices."""

import asyncio
import logging

import pytest

from skerry.node import logs
from skerry.node.config import NodeConfig
from skerry.node.logs import configure_logging, keep_small, turn_over


@pytest.fixture
def path(tmp_path):
    return tmp_path / "compute.log"


@pytest.fixture
def root_level():
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


def test_small_and_missing_files_stay(path) -> None:
    assert not turn_over(path, 10)
    path.write_bytes(b"0123456789")
    assert not turn_over(path, 10)
    assert [p.name for p in path.parent.iterdir()] == ["compute.log"]


def test_end_of_a_large_file_is_kept_and_its_writer_goes_on(path) -> None:
    with path.open("ab", buffering=0) as writer:
        writer.write(b"first half|second half|")
        assert turn_over(path, 12)
        writer.write(b"after")
    assert path.read_bytes() == b"after"
    assert path.with_suffix(".old.log").read_bytes() == b"second half|"
    assert len(list(path.parent.iterdir())) == 2


def test_only_one_older_file_is_kept(path) -> None:
    for _ in range(3):
        path.write_bytes(b"x" * 11)
        assert turn_over(path, 10)
    assert sum(p.stat().st_size for p in path.parent.iterdir()) == 10


def test_disk_that_refuses_is_only_noted(path, caplog) -> None:
    path.write_bytes(b"x" * 11)
    path.with_suffix(".old.tmp").mkdir()
    assert not turn_over(path, 10)
    assert "cannot be turned over" in caplog.text
    assert path.stat().st_size == 11


async def test_files_are_looked_at_again_and_again(path, monkeypatch) -> None:
    monkeypatch.setattr(logs, "_LOOK_SECONDS", 0.0)
    seen = []

    def look(path) -> None:
        seen.append(path)
        if len(seen) == 4:
            raise OSError("enough")

    monkeypatch.setattr(logs, "turn_over", look)
    other = path.with_name("daemon.log")
    with pytest.raises(OSError, match="enough"):
        await asyncio.wait_for(keep_small((path, other)), 60)
    assert seen == [path, other] * 2


def test_level_can_change(root_level) -> None:
    for level, number in (("debug", logging.DEBUG), ("error", logging.ERROR)):
        configure_logging(NodeConfig.model_validate({"log": {"level": level}}))
        assert logging.getLogger().level == number
