"""A server that closes while it is accepting: the connection is handled, nothing leaks."""

import asyncio
import gc
import socket
import warnings
from pathlib import Path

import pytest
import uvloop

from skerry.node.net.listening import close_server


@pytest.mark.parametrize("loop_factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_connection_accepted_as_the_server_closes_is_handled(tmp_path, loop_factory) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner, warnings.catch_warnings():
        warnings.simplefilter("error")  # so is a socket that nobody has closed
        assert runner.run(_handled_while_closing(tmp_path / "socket")) == 1
        gc.collect()


async def _handled_while_closing(path: Path) -> int:
    handled = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.append(reader)
        writer.transport.abort()

    server = await asyncio.start_unix_server(accept, path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        for _ in range(2):  # so that asyncio accepts in the very turn in which it is closed
            await asyncio.sleep(0)
        await close_server(server)
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as late:
            late.connect(str(path))
    return len(handled)
