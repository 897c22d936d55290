"""The sinks from the event log to their files: the process, the libraries, and what may fail."""

import asyncio
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.node.config import SinksSection
from skerry.node.run.journal import Journal
from skerry.node.sinks import process as process_module
from skerry.node.sinks.process import keep_sinks
from skerry.node.sinks.sink import missing, wanted

RUN_ID = "ab" * 32
ON = SinksSection(tensorboard=True)
STORY: list[dict[str, object]] = [
    {"event": "started", "peer": "12D3KooWpeer"},
    {"event": "trained", "round": 1, "loss": 9.0},  # in no run: for nobody
    {"event": "entered", "run": RUN_ID, "name": "first"},
    {"event": "trained", "round": 7, "loss": 2.5},
    {"event": "left", "name": "first"},
    {"event": "trained", "round": 8, "loss": 9.0},
]


def lines() -> str:
    return "".join(json.dumps({"time": 1.7e9, **line}) + "\n" for line in STORY)


def run_feed(home, settings: SinksSection, text: str, **env: str) -> None:
    command = [sys.executable, "-m", "skerry.node.sinks.feed", str(home.path)]
    done = subprocess.run(
        [*command, settings.model_dump_json()],
        input=text,
        text=True,
        capture_output=True,
        env={**os.environ, **env},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def scalars_in(folder: Path) -> list[tuple[str, int, float]]:
    """Read TensorBoard's files: length, its checksum, event, its checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def test_tensorboard_gets_the_points_of_the_run(home) -> None:
    pytest.importorskip("tensorboardX")
    run_feed(home, ON, '{"cut' + "\n" + lines() + '{"event": "tra')
    folder = home.path / "runs" / RUN_ID / "tensorboard"
    assert scalars_in(folder) == [("loss/train", 7, 2.5)]


def test_weights_and_biases_keeps_them_offline(home) -> None:
    pytest.importorskip("wandb")
    settings = SinksSection(wandb=True, wandb_project="islands")
    run_feed(home, settings, lines(), WANDB_MODE="offline", WANDB_ERROR_REPORTING="false")
    [kept] = (home.path / "runs" / RUN_ID / "wandb").glob("offline-run-*/*.wandb")
    data = kept.read_bytes()
    assert b"islands" in data
    assert b"loss/train" in data


def test_off_by_default_and_nothing_is_started(tmp_path, home) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    asyncio.run(keep_sinks(home, SinksSection(), journal))
    assert journal.last(9) == []


async def test_daemon_s_side_feeds_its_child_and_ends_it(home, tmp_path) -> None:
    pytest.importorskip("tensorboardX")
    home.create()
    journal = Journal(tmp_path / "events.jsonl")
    journal.write("started", peer="12D3KooWpeer")
    sinks = asyncio.create_task(keep_sinks(home, ON, journal))
    while not journal._listeners:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)
    for line in STORY[1:4]:
        details = {key: value for key, value in line.items() if key != "event"}
        journal.write(str(line["event"]), **details)
    folder = home.path / "runs" / RUN_ID / "tensorboard"
    async with asyncio.timeout(60):
        while not (folder.exists() and scalars_in(folder)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    sinks.cancel()
    await asyncio.wait([sinks])
    assert sinks.cancelled()  # and the leak check sees whether the child has ended


async def test_child_that_fails_is_said_and_that_is_all(home, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(process_module.sys, "executable", "/bin/false")
    monkeypatch.setattr(process_module, "missing", lambda settings: ())
    journal = Journal(tmp_path / "events.jsonl")
    journal.write("started")
    sinks = asyncio.create_task(keep_sinks(home, ON, journal))
    async with asyncio.timeout(60):
        while not sinks.done():
            journal.write("note")
            await asyncio.sleep(0.01)
    warnings = [json.loads(line) for line in journal.last(10**4) if '"warning"' in line]
    assert [line["text"] for line in warnings] == [
        "the sinks have ended with exit code 1; see the daemon's log"
    ]


async def test_library_that_is_missing_is_said(home, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("skerry.node.sinks.sink.find_spec", lambda name: None)
    assert list(missing(ON)) == list(wanted(ON)) == ["tensorboard"]
    journal = Journal(tmp_path / "events.jsonl")
    await keep_sinks(home, ON, journal)
    [line] = journal.last(9)
    assert "pip install 'skerry[tensorboard]'" in line
