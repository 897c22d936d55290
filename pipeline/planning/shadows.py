"""Who keeps stale copies of stages that too few failure domains host."""

from collections import Counter
from collections.abc import Sequence

from skerry.pipeline.planning.draft import RingDraft, Workshop
from skerry.pipeline.planning.plan import Shadow

_COPY_BYTES_PER_PARAMETER = 2
"""bf16."""


def shadows(
    workshop: Workshop, rings: Sequence[RingDraft], spares: Sequence[int]
) -> tuple[Shadow, ...]:
    """Choose a holder for each stage that needs one and can have one.

    Never a host of the stage or of its neighbours in the same ring (both may be lost together),
    nor a peer of the copied one's failure domain; first one outside the domains of all hosts, then
    a spare, then one that holds few copies, then the nearest. Copies lie on the holder's disk, so
    they take none of its memory.
    """
    problem, peers = workshop.problem, workshop.problem.peers
    if not problem.limits.shadow_below:
        return ()
    held: Counter[int] = Counter()
    found = []
    for stage in range(len(workshop.cuts)):
        hosts = _hosts(rings, stage)
        domains = {peers[peer].domain for peer in hosts}
        if not hosts or len(domains) >= problem.limits.shadow_below:
            continue
        source = hosts[0]
        barred = _near(rings, source, stage) | set(hosts)
        able = [
            peer
            for peer in range(len(peers))
            if peer not in barred and peers[peer].domain != peers[source].domain
        ]
        if able:
            holder = min(
                able,
                key=lambda peer: (
                    peers[peer].domain in domains,
                    peer not in spares,
                    held[peer],
                    workshop.simulator.hop_s(source, peer),
                ),
            )
            held[holder] += _copy_bytes(workshop, stage)
            found.append(Shadow(stage, peers[source].name, peers[holder].name))
    return tuple(found)


def _hosts(rings: Sequence[RingDraft], stage: int) -> list[int]:
    return [
        peer
        for ring in rings
        for peer, own in zip(ring.members, ring.stages, strict=True)
        if stage in own
    ]


def _near(rings: Sequence[RingDraft], source: int, stage: int) -> set[int]:
    """Return who hosts the stage or a neighbour of it in the ring of ``source``."""
    (ring,) = (ring for ring in rings if source in ring.members)
    near = {stage - 1, stage, stage + 1}
    return {peer for peer, own in zip(ring.members, ring.stages, strict=True) if near & set(own)}


def _copy_bytes(workshop: Workshop, stage: int) -> int:
    model = workshop.problem.model
    params = workshop.units(stage) * model.block_params
    params += model.embed_params + model.head_params if stage == 0 else 0
    return params * _COPY_BYTES_PER_PARAMETER
