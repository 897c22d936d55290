"""Having a plan made for those who are here, in a process that ends when it has one."""

import asyncio
import contextlib
import sys

from skerry.node.run.context import RunContext
from skerry.pipeline.planning.request import Request
from skerry.protocol.errors import ComputeError, SkerryError
from skerry.protocol.rings.codec import decode_plan, encode_plan
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.events import Planned

_SECONDS = 300.0
"""The first search on a machine compiles the simulator."""


async def plan_for(context: RunContext, candidates: tuple[Candidate, ...]) -> None:
    """Have a plan made; it comes back as an event. Without one the swarm goes on as it is."""
    try:
        plan = await make_plan(context, candidates)
    except SkerryError as error:
        context.journal.write("warning", text=f"no plan could be made: {error}")
        plan = None
    context.post(Planned(candidates, plan))


async def make_plan(context: RunContext, candidates: tuple[Candidate, ...]) -> Plan | None:
    """Return who should host what; None if those who are here can make no ring.

    Raises: ComputeError("SK-CMP-001") if the planner ends without an answer, ProtocolError if that
    is no plan.
    """
    running = context.state.rounds.hosts.plan
    request = Request(
        manifest=context.manifest.canonical().decode(),
        candidates=candidates,
        running=encode_plan(running).hex() if running else "",
    )
    found = await _ask(request.to_json())
    return decode_plan(found) if found else None


async def _ask(request: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "skerry.pipeline.planning.maker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            found, said = await process.communicate(request)
    except TimeoutError:
        raise ComputeError("SK-CMP-001", f"no plan within {_SECONDS:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise ComputeError("SK-CMP-001", f"the planner has ended: {last[:200]}")
    return found
