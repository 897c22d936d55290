"""What this node offers a run: the whole model, a part of it, or whatever the plan makes of it."""

from skerry.node.config import ComputeSection
from skerry.pipeline.capacity import available_bytes, check_room, needed_bytes
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import Offer, RoleOffer

_ROLES = {"auto": RoleOffer.AUTO, "replica": RoleOffer.REPLICA, "stage": RoleOffer.STAGE}


def offer_of(section: ComputeSection, manifest: Manifest, owns: bool) -> Offer:
    """Return the offer that follows from settings and free memory.

    Who owns a run hosts the whole model at its start, whatever its settings say.
    Raises: ComputeError("SK-MEM-001") if that, or a replica that was asked for, does not fit.
    """
    role, needed = _ROLES[section.role], needed_bytes(manifest)
    known = [amount for amount in (section.memory or None, available_bytes()) if amount is not None]
    memory = min(known, default=needed)
    if owns or role is RoleOffer.REPLICA:
        check_room(needed, memory)
        role = RoleOffer.REPLICA
    return Offer(role, memory)
