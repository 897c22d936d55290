"""A real daemon whose compute process may be told to take an outer step wrongly.

python -P tests/chaos/diverging_daemon.py ORDER daemon --home=...
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from skerry.node.cli import main
from skerry.node.run import compute

_WORKER = Path(__file__).parent / "diverging_worker.py"
_RIGHT = ("-P", "-m", "skerry.pipeline.worker")
start = asyncio.create_subprocess_exec


def disturb(order: str) -> None:
    """Have the compute process started by way of diverging_worker.py."""

    async def started(program: str, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
        if arguments[: len(_RIGHT)] == _RIGHT:
            arguments = ("-P", str(_WORKER), order, *arguments[len(_RIGHT) :])
        return await start(program, *arguments, **options)

    compute.asyncio.create_subprocess_exec = started  # type: ignore[attr-defined]


if __name__ == "__main__":
    disturb(sys.argv.pop(1))
    main.main()
