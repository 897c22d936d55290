"""The compute process seen from the node: a real one, started, asked, killed and stopped."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import run_world
from own_processes import children

from skerry.node.home import RunHome
from skerry.node.run import compute as compute_module
from skerry.node.run.compute import ComputeProcess
from skerry.protocol import compute as cp
from skerry.protocol.errors import ComputeError, ConfigError
from skerry.protocol.launch import Launch
from skerry.protocol.layout import layout_of


@pytest.fixture
def launch(tmp_path) -> Launch:
    home = RunHome(tmp_path / "run")
    for folder in (home.blobs, home.compute):
        folder.mkdir(parents=True)
    return run_world.launch_in(home.folder, run_world.manifest_in(tmp_path))


@asynccontextmanager
async def started(launch, tmp_path, on_progress=lambda progress: None):
    process, hello = await ComputeProcess.start(launch, tmp_path / "compute.log", on_progress)
    serving = asyncio.create_task(process.serve())
    try:
        yield process, hello, serving
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def train(number: int, steps: int = 2) -> cp.Train:
    return cp.Train(
        request=number, round=1, parent="1" * 64, cursor=0, slot=0, num_slots=1, steps=steps
    )


async def test_answers_in_order_and_reports_progress(launch, tmp_path) -> None:
    progress = []
    async with started(launch, tmp_path, progress.append) as (process, hello, serving):
        layout = layout_of(run_world.manifest_in(tmp_path).model)
        assert hello.params == sum(spec.numel for spec in layout)
        assert hello.ledger == ()
        done = []
        asked = [
            process.submit(lambda n: cp.Begin(request=n, shards=None)),
            process.submit(train),
            process.submit(lambda n: cp.Evaluate(request=n)),
        ]
        for future in asked:
            future.add_done_callback(lambda done_one: done.append(asked.index(done_one)))
        ready, trained, evaluated = await asyncio.gather(*asked)
        assert [s.shard for s in ready.shards] == [spec.name for spec in layout]
        assert trained.steps == 2
        assert evaluated.loss > 0
        assert done == [0, 1, 2]
        assert progress[-1].step == 2
        await process.stop()
        await serving
    assert children() == {}


async def test_refusal_fails_its_own_future_only(launch, tmp_path) -> None:
    async with started(launch, tmp_path) as (process, _, _serving):
        early = process.submit(train)  # it has no parameters yet
        with pytest.raises(ComputeError, match="SK-CMP-002"):
            await early
        ready = await process.submit(lambda n: cp.Begin(request=n, shards=None))
        assert ready.digest


async def test_killed_process_fails_what_it_owes_and_what_is_asked_later(launch, tmp_path) -> None:
    async with started(launch, tmp_path) as (process, _, serving):
        await process.submit(lambda n: cp.Begin(request=n, shards=None))
        pending = [process.submit(lambda n: train(n, 10_000)), process.submit(train)]
        os.kill(process.pid, signal.SIGKILL)
        await serving
        for future in pending:
            with pytest.raises(ComputeError, match="SK-CMP-001: it ended before it answered"):
                await future
        with pytest.raises(ComputeError, match="SK-CMP-001"):
            async with asyncio.timeout(run_world.PATIENCE_S):
                await process.submit(train)
        process.tell(cp.Finish(request=1))  # nobody is there to hear it
    assert children() == {}


async def test_finish_ends_training_early(launch, tmp_path) -> None:
    stepped = asyncio.Event()
    async with started(launch, tmp_path, lambda progress: stepped.set()) as (process, _, _serving):
        await process.submit(lambda n: cp.Begin(request=n, shards=None))
        numbers = []
        training = process.submit(lambda n: numbers.append(n) or train(n, 10_000))
        await stepped.wait()
        process.tell(cp.Finish(request=numbers[0]))
        trained = await training
        assert 0 < trained.steps < 10_000


async def test_stop_leaves_nothing_even_of_a_process_that_does_not_listen(
    launch, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(compute_module, "_STOP_SECONDS", 0.1)
    async with started(launch, tmp_path) as (process, _, serving):
        os.kill(process.pid, signal.SIGSTOP)
        asked = process.submit(train)
        await process.stop()
        await serving
        with pytest.raises(ComputeError, match="SK-CMP-001"):
            await asked
        await process.stop()  # once more does no harm
    assert children() == {}


async def test_empty_corpus_is_told_by_its_code(launch, tmp_path) -> None:
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ConfigError, match="SK-DAT-001"):
        await ComputeProcess.start(launch, tmp_path / "compute.log", lambda progress: None)
    assert children() == {}


async def test_process_that_dies_without_a_word_is_told(launch, tmp_path) -> None:
    broken = replace(launch, manifest="nonsense" * 3, folder="\0")
    with pytest.raises((ComputeError, ConfigError)):
        await ComputeProcess.start(broken, tmp_path / "compute.log", lambda progress: None)
    assert children() == {}


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Start a small program of the test's own instead of the worker."""

    def use(program: str) -> None:
        file = tmp_path / "program.py"
        file.write_text(
            "import os, socket, sys, time\ns = socket.socket(fileno=int(sys.argv[2]))\n" + program
        )
        real = asyncio.create_subprocess_exec

        async def start(*command, **options):
            return await real(command[0], str(file), *command[-2:], **options)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)

    return use


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("sys.exit(3)", "SK-CMP-001: the compute process ended while starting"),
        (r's.sendall(b"\0\0\0\7half"); os._exit(1)', "SK-CMP-001"),
        ("s.sendall({settled!r}); time.sleep(999)", "SK-CMP-002: .* began with settled"),
        (r's.sendall(b"\xff\xff\xff\xff"); time.sleep(999)', "SK-CMP-002: frame of"),
        (r's.sendall(b"\0\0\0\2{{}}"); time.sleep(999)', "SK-CMP-002"),
    ],
    ids=["ends", "half a frame", "no hello", "too large", "garbage"],
)
async def test_bad_greeting_is_a_coded_error(launch, tmp_path, stand_in, program, error) -> None:
    stand_in(program.format(settled=cp.encode_reply(cp.Settled(request=0))))
    with pytest.raises(ComputeError, match=error):
        await ComputeProcess.start(launch, tmp_path / "compute.log", lambda progress: None)
    assert children() == {}


async def test_process_that_never_speaks_is_given_up(
    launch, tmp_path, stand_in, monkeypatch
) -> None:
    monkeypatch.setattr(compute_module, "_START_SECONDS", 0.3)
    stand_in("time.sleep(999)")
    with pytest.raises(ComputeError, match="SK-CMP-001: the compute process does not start"):
        await ComputeProcess.start(launch, tmp_path / "compute.log", lambda progress: None)
    assert children() == {}


async def test_start_that_is_cancelled_leaves_no_process(launch, tmp_path, stand_in) -> None:
    up = tmp_path / "up"
    os.mkfifo(up)
    stand_in(f"open({str(up)!r}, 'w').close(); time.sleep(999)")
    log = tmp_path / "compute.log"
    starting = asyncio.create_task(ComputeProcess.start(launch, log, lambda progress: None))
    await asyncio.to_thread(up.read_bytes)  # returns when the process has come that far
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() == {}


@pytest.mark.parametrize("rubbish", [r'b"\0\0\0\3xyz"', r'b"\xff\xff\xff\xff"'])
async def test_rubbish_in_mid_stream_ends_the_process(launch, tmp_path, stand_in, rubbish) -> None:
    hello = cp.encode_reply(cp.Hello(params=1, unigram_entropy=1.0, ledger=()))
    unasked = cp.encode_reply(cp.Settled(request=77))
    stand_in(
        f"s.sendall({hello!r} + {unasked!r}); s.recv(1); s.sendall({rubbish}); time.sleep(999)"
    )
    async with started(launch, tmp_path) as (process, _, serving):
        asked = process.submit(train)
        await serving
        with pytest.raises(ComputeError, match="SK-CMP-001"):
            await asked
    assert children() == {}
