"""How fast this node computes a block, measured before it offers to host a part of the model.

It is told with the offer, so that the first plan of a run knows it. Once a ring trains, what it
measures there counts instead. Whoever hosts the whole model trains alone, at whatever speed.
"""

import logging
from dataclasses import replace
from pathlib import Path

from skerry.node.run.asking import answer_of
from skerry.pipeline.capacity import needed_bytes
from skerry.pipeline.planning.block_speed import BlockSpeed, SpeedRequest
from skerry.protocol.blobs import disk_errors, write_atomic
from skerry.protocol.errors import ComputeError
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import Offer

_LOG = logging.getLogger(__name__)
_SECONDS = 60.0
"""Most of which a busy machine needs to import torch."""


async def with_speed(offer: Offer, manifest: Manifest, threads: int, kept: Path) -> Offer:
    """Return an offer of a part with this machine's speed, measured once and ``kept``.

    One that cannot be measured is not told, and the planner takes it to be like the others.
    Raises: StateError on a full disk.
    """
    if offer.is_whole(needed_bytes(manifest)):
        return offer
    speed = _known(kept, threads)
    if speed is None:
        try:
            speed = await _measured(offer, manifest, threads)
        except (ComputeError, ValueError) as error:
            _LOG.warning("how fast a block is computed here is not known: %s", error)
            return offer
        with disk_errors():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, speed.to_json())
    return replace(offer, forward=speed.forward, backward=speed.backward)


def _known(kept: Path, threads: int) -> BlockSpeed | None:
    try:
        speed = BlockSpeed.from_json(kept.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        _LOG.warning("%s is damaged and ignored", kept)
        return None
    return speed if speed.threads == threads else None


async def _measured(offer: Offer, manifest: Manifest, threads: int) -> BlockSpeed:
    request = SpeedRequest(manifest.canonical().decode(), threads, offer.memory)
    answer = await answer_of("skerry.pipeline.stages.timing", request.to_json(), _SECONDS)
    return BlockSpeed.from_json(answer)
