"""The judgements on a round's contributions, from their payloads in the blob store.

Every peer of the run judges alike, whichever shards it hosts. So each needs all payloads that the
commit includes; they are small beside parameters, and one shard's are in memory at a time.
"""

from collections.abc import Iterator, Sequence

from skerry.pipeline.evidence import ShardPayloads, gather
from skerry.pipeline.judging import judge, rules_of
from skerry.pipeline.payloads import Payloads
from skerry.protocol.blobs import BlobStore
from skerry.protocol.compute import Contribution
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import Judgement
from skerry.protocol.standing import PeerStanding


class Jury:
    """Judges contributions by the rules of one run."""

    def __init__(self, manifest: Manifest, store: BlobStore) -> None:
        """Make the codecs of all shards of the model."""
        self._rules = rules_of(manifest.aggregation)
        self._most_tokens = manifest.max_round_tokens
        self._payloads = Payloads(manifest, store)

    def judge(self, contributions: Sequence[Contribution]) -> tuple[Judgement, ...]:
        """Return the judgements on contributions that are not to count in full, by author."""
        flaws = {i: reason for i, one in enumerate(contributions) if (reason := self._flaw(one))}
        authors = [one.author for one in contributions]
        evidence, flaws = gather(authors, self._shards(contributions, flaws), flaws)
        sound = [one for i, one in enumerate(contributions) if i not in flaws]
        standings = [PeerStanding(one.reputation, one.strikes) for one in sound]
        malformed = [Judgement(authors[i], 0, reason) for i, reason in flaws.items()]
        judged = judge(evidence, standings, self._rules)
        return tuple(sorted((*judged, *malformed), key=lambda judgement: judgement.peer))

    def _flaw(self, contribution: Contribution) -> str:
        if not 0 < contribution.round_tokens <= self._most_tokens:
            return "weight"
        return "" if self._payloads.are_shards(contribution.shards) else "shards"

    def _shards(
        self, contributions: Sequence[Contribution], flaws: dict[int, str]
    ) -> Iterator[ShardPayloads]:
        """Yield the payloads of one shard after the other; note those that cannot be read."""
        for position, spec in enumerate(self._payloads.layout):
            found: dict[int, bytes] = {}
            for i, contribution in enumerate(contributions):
                sent = {payload.shard: payload for payload in contribution.shards}
                if i in flaws or spec.name not in sent:
                    continue
                try:
                    found[i] = self._payloads.read(position, sent[spec.name])
                except ProtocolError as error:
                    flaws[i] = error.reason
                except StateError:
                    flaws[i] = "missing"
            yield self._payloads.codec(position), found
