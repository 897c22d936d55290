"""What a stale copy of a shard may be, and who may give it to whom. Pure.

The plan in force says which host sends which stage to which peer. A copy consists of a whole one
and differences; how long each may be follows from the shard, and together they are never much
longer than two whole ones, so a holder's disk is bounded by the model.
"""

from collections.abc import Sequence

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import HASH_BYTES, PeerId
from skerry.protocol.messages import ShadowCopy, ShardPayload
from skerry.protocol.rings.plan import Plan, Shadow

MAX_PARTS = 32
_HEADER_BYTES = 1 + HASH_BYTES + 4
_BYTES_PER_PARAMETER = 2
UNPLANNED = "shadow-unplanned"
"""Why a copy is refused that no plan known here speaks of; its sender may know a newer one."""
NO_BASE = "shadow-base"
"""Why a difference is refused: what it is taken from is not here."""
BUSY, EARLY = "shadow-busy", "shadow-early"
"""Why a copy is refused while another one comes, or of a round that is not known here yet."""
NOT_NOW = frozenset({UNPLANNED, BUSY, EARLY})
"""Refused, although nothing is wrong with it."""


def part_limit(numel: int) -> int:
    """Return how many bytes one part of a shard of so many parameters takes at most."""
    return _HEADER_BYTES + _BYTES_PER_PARAMETER * numel


def has_room(parts: Sequence[ShardPayload], numel: int) -> bool:
    """Say whether another difference may follow, or a whole copy is due."""
    return 0 < len(parts) < MAX_PARTS and sum(part.size for part in parts) <= part_limit(numel)


def check_parts(copy: ShadowCopy, numel: int) -> None:
    """Refuse a copy that could not be one of ``numel`` parameters. Raises: ProtocolError."""
    limit, sizes = part_limit(numel), [part.size for part in copy.parts]
    if not 0 < len(sizes) <= MAX_PARTS or max(sizes) > limit or sum(sizes) > 2 * limit:
        detail = f"a copy of {copy.shard} in {len(sizes)} parts of {sum(sizes)} bytes"
        raise ProtocolError("size", f"{detail}, limit {2 * limit}")
    if copy.step and len(sizes) < 2:
        raise ProtocolError("shadow", f"a copy of {copy.shard} after {copy.step} steps of no start")
    if any(part.shard != copy.shard for part in copy.parts):
        raise ProtocolError("shadow", f"parts of others in a copy of {copy.shard}")


def planned(plan: Plan | None, shard: str) -> tuple[Shadow, ...]:
    """Return who sends a shard to whom under a plan."""
    shadows = plan.shadows if plan is not None else ()
    stages = plan.stages if plan is not None else ()
    return tuple(shadow for shadow in shadows if shard in stages[shadow.stage].shards)


def check_planned(plan: Plan | None, shard: str, source: PeerId, holder: PeerId) -> None:
    """Refuse what the plan in force does not speak of. Raises: ProtocolError(UNPLANNED)."""
    pairs = {(shadow.source, shadow.holder) for shadow in planned(plan, shard)}
    if (source, holder) not in pairs:
        raise ProtocolError(UNPLANNED, f"no plan has {shard} copied from there to here")
