"""What a run's manifest and plan mean for a peer of a ring: rules, streams, what it hosts."""

from skerry.node.ring.mesh import MeshSettings
from skerry.pipeline.planning.plan import skipped
from skerry.pipeline.stages.sizes import payload_bytes, text_bytes
from skerry.protocol.compute import HostedStage, Hosting
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest
from skerry.protocol.rings.lanes import LaneLimits, SizeRange
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rings.state import Rules

_LEAST_BACKLOG = 32
"""Frames; a peer has more slots than the manifest says if a microbatch visits it more often."""


def rules_of(manifest: Manifest, plan: Plan) -> Rules:
    """Return the rules by which the rings of a run decide."""
    ring, stages = manifest.ring, len(plan.stages)
    return Rules(
        run_id=manifest.run_id,
        most_skipped=skipped(stages, ring.skip_ratio) + ring.bypass,
        hop_min_s=ring.hop_min,
        hop_max_s=ring.hop_max,
        attempt_min_s=ring.attempt_min,
        attempt_max_s=ring.attempt_max,
        factor=ring.deadline_factor,
        bypass_steps=manifest.recovery.bypass_steps if ring.bypass else 0,
    )


def mesh_settings(manifest: Manifest) -> MeshSettings:
    """Return what the streams between the members of a ring may carry."""
    least, most = 1, manifest.ring.microbatch
    backward = SizeRange(payload_bytes(manifest, least), payload_bytes(manifest, most))
    forward = SizeRange(
        backward.least + text_bytes(manifest, least), backward.most + text_bytes(manifest, most)
    )
    # Those of all slots twice over: what is given up and begun anew may still wait to be sent.
    data = max(_LEAST_BACKLOG, 2 * manifest.ring.slots)
    return MeshSettings(LaneLimits(forward, backward, backlog_data=data))


def hosting_of(plan: Plan, peer: PeerId) -> Hosting | None:
    """Return the stages that a peer hosts; None if it is a full replica or has no task."""
    ring = plan.ring_of(peer)
    if ring is None or len(plan.rings[ring].members) == 1:
        return None
    index = plan.rings[ring].member_of(peer)
    assert index is not None, "the ring that it is in has it"
    member = plan.rings[ring].members[index]
    stages = tuple(HostedStage(number, plan.stages[number].shards) for number in member.stages)
    return Hosting(stages, member.slots)
