"""Who keeps stale copies of stages that too few failure domains host."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from skerry.pipeline.planning.draft import RingDraft, Workshop
from skerry.pipeline.planning.plan import Shadow

_FIRST = 0
"""The stage with embedding and head."""
_COPY_BYTES_PER_PARAMETER = 2
"""bf16."""


def shadows(
    workshop: Workshop, rings: Sequence[RingDraft], spares: Sequence[int]
) -> tuple[Shadow, ...]:
    """Choose who keeps a copy of each stage that needs one; whoever hosts it never does.

    The holder is in another failure domain than the host, and does not host the stage before or
    after it in the same ring, since both may be lost together. Where nobody is both, another domain
    counts for more, for domains are lost as a whole; and a bad holder is better than none.

    Embedding and head cannot be made of anything else, so their stage is copied twice, and first to
    a neighbour, as in CheckFree (arXiv:2506.15461, section 4.3).
    """
    peers, holders = workshop.problem.peers, _Holders(workshop, rings, frozenset(spares))
    return tuple(
        Shadow(stage, peers[source].name, peers[holder].name)
        for stage, source in holders.wanting()
        for holder in holders.of(stage, source)
    )


@dataclass(frozen=True, slots=True)
class _Holders:
    """Chooses holders. Copies lie on their disks, so they take none of their memory."""

    workshop: Workshop
    rings: Sequence[RingDraft]
    spares: frozenset[int]
    held: Counter[int] = field(default_factory=Counter)
    """Bytes by peer."""

    def wanting(self) -> Iterator[tuple[int, int]]:
        """Yield the stages that too few domains host, each with the host to copy from."""
        fewest = self.workshop.problem.limits.shadow_below
        staged = [ring for ring in self.rings if len(ring.members) > 1]
        for stage in range(len(self.workshop.cuts)):
            sources = _hosts(staged, (stage,))  # a full replica sends no stages
            if sources and len(self._domains(_hosts(self.rings, (stage,)))) < fewest:
                yield stage, sources[0]

    def of(self, stage: int, source: int) -> Iterator[int]:
        """Yield who keeps the copies of a stage."""
        able = set(range(len(self.workshop.problem.peers))) - set(_hosts(self.rings, (stage,)))
        ring = [ring for ring in self.rings if source in ring.members]
        if stage == _FIRST:
            last = len(self.workshop.cuts) - 1
            beside = able.intersection(_hosts(ring, (stage + 1, last)))
            for holder in self._best(beside, stage, source, near=()):
                able.discard(holder)
                yield holder
        yield from self._best(able, stage, source, _hosts(ring, (stage - 1, stage + 1)))

    def _best(
        self, able: Collection[int], stage: int, source: int, near: Collection[int]
    ) -> list[int]:
        """Return the best holder if there is one, which then holds more.

        Of those in other domains than all hosts first a spare, then who holds little, then who is
        near on the network.
        """
        peers = self.workshop.problem.peers
        domains = self._domains(_hosts(self.rings, (stage,)))
        found = sorted(
            able,
            key=lambda peer: (
                peers[peer].domain == peers[source].domain,
                peer in near,
                peers[peer].domain in domains,
                peer not in self.spares,
                self.held[peer],
                self.workshop.simulator.hop_s(source, peer),
                peer,
            ),
        )[:1]
        self.held.update(dict.fromkeys(found, self._copy_bytes(stage)))
        return found

    def _domains(self, peers: Iterable[int]) -> set[str]:
        return {self.workshop.problem.peers[peer].domain for peer in peers}

    def _copy_bytes(self, stage: int) -> int:
        model = self.workshop.problem.model
        params = self.workshop.units(stage) * model.block_params
        params += model.embed_params + model.head_params if stage == _FIRST else 0
        return params * _COPY_BYTES_PER_PARAMETER


def _hosts(rings: Iterable[RingDraft], stages: Collection[int]) -> list[int]:
    """Return who hosts any of these stages."""
    return [
        peer
        for ring in rings
        for peer, own in zip(ring.members, ring.stages, strict=True)
        if set(own) & set(stages)
    ]
