"""One question to a process of ours that ends when it has answered: bytes in, bytes out."""

import asyncio
import contextlib
import sys

from skerry.protocol.errors import ComputeError


async def answer_of(module: str, request: bytes, seconds: float) -> bytes:
    """Return what ``python -m module`` makes of a request.

    Raises: ComputeError("SK-CMP-001") if it fails, or has no answer within ``seconds``.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            found, said = await process.communicate(request)
    except TimeoutError:
        raise ComputeError("SK-CMP-001", f"{module}: no answer within {seconds:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise ComputeError("SK-CMP-001", f"{module} has ended: {last[:200]}")
    return found
