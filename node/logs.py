"""What the daemon logs in words, and the files that hold it, kept from filling the disk.

The files are written by several processes that hold them open to append: this one, compute
processes, whatever gRPC's C core has to say. So a file that grew large is copied and cut to
nothing in place, which they do not notice. A line written in between may be lost.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from skerry.node.config import NodeConfig

_LOG = logging.getLogger(__name__)
MAX_BYTES = 16 * 2**20
"""Of the file and of the one kept beside it."""
_LOOK_SECONDS = 60.0


def configure_logging(config: NodeConfig) -> None:
    """Log to stderr from the configured level on; a later call changes the level."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(config.log.level.upper())


async def keep_small(files: Iterable[Path]) -> None:
    """Turn files over whenever they have grown large; runs until cancelled."""
    while True:
        for path in files:
            await asyncio.to_thread(turn_over, path)
        await asyncio.sleep(_LOOK_SECONDS)


def turn_over(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Move the end of a file larger than ``max_bytes`` to ``.old``; return whether it was."""
    try:
        size = path.stat().st_size
        if size <= max_bytes:
            return False
        old = path.with_suffix(f".old{path.suffix}")
        copy = old.with_suffix(".tmp")
        with path.open("rb") as source, copy.open("wb") as target:
            source.seek(size - max_bytes)
            shutil.copyfileobj(source, target)
        copy.replace(old)
        os.truncate(path, 0)
    except FileNotFoundError:
        return False
    except OSError as error:
        _LOG.warning("%s cannot be turned over: %s", path, error)
        return False
    return True
