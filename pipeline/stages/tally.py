"""What each shard's gradient is made of so far, and what is still owed to it.

When a visit's input gradient is computed, the gradients of its weights are owed (deferral.py). A
shard counts the microbatch when they are paid; until then the visit may be dropped, because its
attempt failed, and nothing of it is left. No shard counts a microbatch twice.
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


@dataclass(frozen=True, slots=True)
class _Owed:
    """The gradients of some shards' weights, from one backward pass."""

    shards: frozenset[str]
    text_tokens: int
    debts: list[Debt]
    num_bytes: int


class Tally:
    """The gradients of all hosted shards in one step."""

    def __init__(self, shards: Iterable[str], limit_bytes: int) -> None:
        """Count for ``shards``; debts may keep ``limit_bytes`` beyond the newest one's."""
        self._shards = {name: ShardTally() for name in shards}
        self._limit_bytes = limit_bytes
        self._owed: dict[Place, list[_Owed]] = {}

    @property
    def kept_bytes(self) -> int:
        """What debts keep; tensors that two visits shared would count twice, but none do."""
        return sum(one.num_bytes for some in self._owed.values() for one in some)

    def of(self, shard: str) -> ShardTally:
        """Return one shard's part."""
        return self._shards[shard]

    def lacking(self, shards: Iterable[str], microbatch: int) -> frozenset[str]:
        """Return those of ``shards`` that neither count a microbatch nor are owed it."""
        owed = {
            name
            for place, some in self._owed.items()
            if place.microbatch == microbatch
            for one in some
            for name in one.shards
        }
        return frozenset(
            name
            for name in shards
            if name not in owed and microbatch not in self._shards[name].microbatches
        )

    def owe(
        self, shards: frozenset[str], place: Place, text_tokens: int, debts: list[Debt]
    ) -> None:
        """Note what is owed to shards that lacked a microbatch.

        Debts that no longer fit are paid, the oldest first.
        """
        if not shards:
            return
        owed = _Owed(shards, text_tokens, debts, kept_bytes(debts))
        self._owed.setdefault(place, []).append(owed)
        while self.kept_bytes > self._limit_bytes:
            self.pay(next(iter(self._owed)))

    def pay(self, place: Place) -> None:
        """Add to gradients what is owed for a visit, and count it; nothing if that is done."""
        for one in self._owed.pop(place, []):
            for debt in one.debts:
                debt.pay()
            for name in one.shards:
                self._shards[name].text_tokens += one.text_tokens
                self._shards[name].microbatches.add(place.microbatch)

    def pay_all(self, microbatches: Collection[int] | None) -> None:
        """Pay all that is owed; with ``microbatches``, only what is owed for these."""
        for place in list(self._owed):
            if microbatches is None or place.microbatch in microbatches:
                self.pay(place)

    def drop(self, place: Place) -> None:
        """Forget what is owed for a visit."""
        self._owed.pop(place, None)

    def drop_older(self, place: Place) -> None:
        """Forget what is owed for earlier attempts of a microbatch."""
        for one in list(self._owed):
            if one.microbatch == place.microbatch and one.attempt < place.attempt:
                del self._owed[one]

    def clear(self) -> None:
        """Count from nothing, for another step."""
        self._owed.clear()
        for name in self._shards:
            self._shards[name] = ShardTally()
