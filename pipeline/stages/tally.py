"""What each shard's gradient is made of so far, and what is still owed to it.

A shard counts a microbatch when its input's gradient is computed: from then on the gradient of its
weights is certain, as a debt (deferral.py) or already added. It counts none twice.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from skerry.pipeline.stages.deferral import Debt, kept_bytes
from skerry.pipeline.stages.tasks import Place


@dataclass(slots=True)
class ShardTally:
    """One shard's part in the present step."""

    text_tokens: int = 0
    microbatches: set[int] = field(default_factory=set)


class Tally:
    """The gradients of all hosted shards in one step."""

    def __init__(self, shards: Iterable[str], limit_bytes: int) -> None:
        """Count for ``shards``; debts may keep ``limit_bytes`` beyond the newest one's."""
        self._shards = {name: ShardTally() for name in shards}
        self._limit_bytes = limit_bytes
        self._debts: dict[Place, list[Debt]] = {}
        self._bytes: dict[Place, int] = {}

    @property
    def kept_bytes(self) -> int:
        """What debts keep; tensors that two visits shared would count twice, but none do."""
        return sum(self._bytes.values())

    def of(self, shard: str) -> ShardTally:
        """Return one shard's part."""
        return self._shards[shard]

    def lacking(self, shards: Iterable[str], microbatch: int) -> frozenset[str]:
        """Return those of ``shards`` that have not counted a microbatch."""
        return frozenset(
            name for name in shards if microbatch not in self._shards[name].microbatches
        )

    def count(
        self, shards: Collection[str], place: Place, text_tokens: int, debts: list[Debt]
    ) -> None:
        """Count a microbatch for shards that lacked it, and owe them its gradients.

        Debts that no longer fit are paid, the oldest first.
        """
        for name in shards:
            self._shards[name].text_tokens += text_tokens
            self._shards[name].microbatches.add(place.microbatch)
        if debts:
            self._debts[place] = self._debts.get(place, []) + debts
            self._bytes[place] = kept_bytes(self._debts[place])
        while self.kept_bytes > self._limit_bytes:
            self.pay(next(iter(self._debts)))

    def pay(self, place: Place) -> None:
        """Add to gradients what a visit owes them; nothing if that is done."""
        for debt in self._debts.pop(place, []):
            debt.pay()
        self._bytes.pop(place, None)

    def pay_all(self) -> None:
        """Add all that is owed."""
        for place in list(self._debts):
            self.pay(place)

    def clear(self) -> None:
        """Count from nothing, for another step."""
        self._debts.clear()
        self._bytes.clear()
        for name in self._shards:
            self._shards[name] = ShardTally()
