"""One end of a measurement, a process of its own.

    end.py serve STACK HOST                              prints where it is, then serves until
                                                         its input ends
    end.py send STACK HOST WHERE SIZE STREAMS REPEATS    prints one JSON line per transfer

A transfer is a payload split over streams that stay open. Each part is announced with its length;
the receiver answers a part when all of it has arrived, with the processor time that its process
and its p2pd have used so far.
"""

import asyncio
import json
import struct
import sys
import tempfile
import time
from pathlib import Path

import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))
from skerry.protocol.transport import ByteStream
from transport_bench.stacks import start

_PART = struct.Struct("!Q")
_ANSWER = struct.Struct("!d")
_READ = 2**18


def cpu_s() -> float:
    """Return the seconds that this process and its children have computed."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


async def exactly(stream: ByteStream, size: int) -> bytes:
    """Read ``size`` bytes. Raises: EOFError."""
    data = b""
    while len(data) < size:
        more = await stream.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


async def receive(stream: ByteStream) -> None:
    """Take parts until the stream ends."""
    while True:
        try:
            (left,) = _PART.unpack(await exactly(stream, _PART.size))
        except EOFError:
            return
        while left:
            data = await stream.read(min(left, _READ))
            if not data:
                return
            left -= len(data)
        await stream.write(_ANSWER.pack(cpu_s()))


async def serve(name: str, host: str) -> None:
    """Be the receiver."""
    with tempfile.TemporaryDirectory() as folder:
        stack = await start(name, host, Path(folder))
        print(await stack.serve(receive), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await stack.close()


async def send(name: str, host: str, where: str, size: str, streams: str, repeats: str) -> None:
    """Be the sender."""
    with tempfile.TemporaryDirectory() as folder:
        stack = await start(name, host, Path(folder))
        open_stream = await stack.dial(where)
        opened = [await open_stream() for _ in range(int(streams))]
        part = bytes(int(size) // len(opened))
        far_before = await transfer(opened, b"")
        for _ in range(int(repeats)):
            near_before, begun = cpu_s(), time.monotonic()
            far = await transfer(opened, part)
            seconds = time.monotonic() - begun
            used = cpu_s() - near_before + far - far_before
            far_before = far
            moved = len(part) * len(opened)
            print(json.dumps({"bytes": moved, "seconds": seconds, "cpu_s": used}), flush=True)
        for stream in opened:
            await stream.close()
        await stack.close()


async def transfer(streams: list[ByteStream], part: bytes) -> float:
    """Send ``part`` on each stream; return the receiver's seconds once all has arrived."""

    async def one(stream: ByteStream) -> float:
        await stream.write(_PART.pack(len(part)))
        await stream.write(part)
        (used,) = _ANSWER.unpack(await exactly(stream, _ANSWER.size))
        return float(used)

    return max(await asyncio.gather(*map(one, streams)))


if __name__ == "__main__":
    uvloop.run({"serve": serve, "send": send}[sys.argv[1]](*sys.argv[2:]))
