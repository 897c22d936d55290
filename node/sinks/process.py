"""The daemon's side of its sinks: one child process, which may fail without harm to the run."""

import asyncio
import contextlib
import os
import signal
import sys

from skerry.node.config import SinksSection
from skerry.node.home import Home
from skerry.node.run.journal import Journal
from skerry.node.sinks.sink import missing, wanted

_LAST_SECONDS = 3.0
"""For the sinks to write what they hold back when the daemon ends."""


async def keep_sinks(home: Home, settings: SinksSection, journal: Journal) -> None:
    """Run the sinks that are on, until cancelled; says so if they cannot be run, or end.

    The journal's newest line is the daemon's "started".
    """
    absent = list(missing(settings))
    for name in absent:
        text = f"sinks.{name} is on but not installed: pip install 'skerry[{name}]'"
        journal.write("warning", text=text)
    if set(wanted(settings)) <= set(absent):
        return
    lines = journal.follow(last=1)
    newest = await anext(lines)  # from here on none is missed
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "skerry.node.sinks.feed"),
        *(str(home.path), settings.model_dump_json()),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(ConnectionError):
            while True:
                process.stdin.write(f"{newest}\n".encode())
                await process.stdin.drain()
                newest = await anext(lines)
        text = f"the sinks have ended with exit code {await process.wait()}; see the daemon's log"
        journal.write("warning", text=text)
    finally:
        await lines.aclose()
        process.stdin.close()
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let it finish, as it does when no more lines come; then end it and its children."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_SECONDS):
            await process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
