"""Parameters: theta, the committed ones every host shares, and the local copy that trains.

Theta is one flat fp32 vector per hosted shard; the local copy is the model, or the part of it that
is hosted. A new theta is built in the local copy first, so that one that cannot be completed
(missing blob, full disk) leaves the old one untouched. Only then is it copied into the old one's
place: there is never a third copy in memory.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

from torch import Tensor

from skerry.pipeline.model import ShardedModel
from skerry.pipeline.shards import flatten_shard, initial_shard, load_shard, read_shard, to_bytes
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ComputeError, ProtocolError
from skerry.protocol.ids import Digest
from skerry.protocol.layout import ShardSpec, state_digest
from skerry.protocol.manifest import Manifest
from skerry.protocol.messages import ShardPayload

Model = TypeVar("Model", bound=ShardedModel)


class Parameters(Generic[Model]):
    """Theta and its local copy, and theta's place in the blob store."""

    def __init__(self, model: Model, layout: tuple[ShardSpec, ...], store: BlobStore) -> None:
        """Train ``model``, whose shards are ``layout``; there is no theta until ``replace``."""
        self.model = model
        self._layout, self._store = layout, store
        self._theta: list[Tensor] = []
        self._shards: tuple[ShardPayload, ...] = ()

    @property
    def theta(self) -> list[Tensor]:
        """Committed parameters per shard in layout order, flat [numel] f32.

        Raises: ComputeError if there are none yet.
        """
        if not self._theta:
            raise ComputeError("SK-CMP-002", "there are no parameters yet: Begin comes first")
        return self._theta

    @property
    def shards(self) -> tuple[ShardPayload, ...]:
        """Where theta lies in the blob store."""
        return self._shards

    @property
    def digest(self) -> Digest:
        """State digest of theta."""
        return state_digest(self._shards)

    def replace(self, shards: Iterable[Tensor]) -> None:
        """Make ``shards`` theta and the local copy, and store them; all or nothing.

        Args:
            shards: flat [numel] f32 per shard in layout order, taken one by one; may be computed
                from the present theta.
        Raises: what taking or storing a shard raises; the local copy is then back at theta.
        """
        with ExitStack() as undo:
            undo.callback(self.rewind)
            stored = self._stored(shards)
            undo.pop_all()
        self._shards = stored
        if not self._theta:
            self._theta = self._flatten()
        else:  # in place of the old, so that there are never two
            for spec, flat in zip(self._layout, self._theta, strict=True):
                flatten_shard(self.model, spec, out=flat)

    def rewind(self) -> None:
        """Bring the local copy back to theta, if there is one."""
        if self._theta:
            self._load(self._theta)

    def progress(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield theta and the local copy per shard in layout order, each flat [numel] f32."""
        for spec, flat in zip(self._layout, self.theta, strict=True):
            yield flat, flatten_shard(self.model, spec)

    def hosted(self) -> Iterator[tuple[ShardSpec, Tensor]]:
        """Yield each shard and its part of theta, flat [numel] f32, in layout order."""
        yield from zip(self._layout, self.theta, strict=True)

    def local_is_finite(self) -> bool:
        """Say whether the local copy holds no infinity and no NaN."""
        return all(bool(tensor.isfinite().all()) for tensor in self.model.parameters())

    @contextmanager
    def at_theta(self) -> Iterator[Model]:
        """Lend the model with theta's values; the local copy's come back afterwards."""
        theta = self.theta
        local = self._flatten()
        self._load(theta)
        try:
            yield self.model
        finally:
            self._load(local)

    def _stored(self, shards: Iterable[Tensor]) -> tuple[ShardPayload, ...]:
        """Store each shard and load it into the local copy; hold none when taking the next.

        Raises: ValueError on another number of shards than the layout's.
        """
        stored: list[ShardPayload] = []
        specs = iter(self._layout)
        for flat in shards:  # zip would hold on to the last one
            spec = next(specs, None)
            if spec is None:
                raise ValueError(f"more than {len(stored)} shards")
            data = to_bytes(flat)
            stored.append(ShardPayload(spec.name, self._store.put(data), len(data)))
            load_shard(self.model, spec, flat)
            del data, flat
        if next(specs, None) is not None:
            raise ValueError(f"only {len(stored)} shards")
        return tuple(stored)

    def _flatten(self) -> list[Tensor]:
        return [flatten_shard(self.model, spec) for spec in self._layout]

    def _load(self, shards: list[Tensor]) -> None:
        for spec, flat in zip(self._layout, shards, strict=True):
            load_shard(self.model, spec, flat)


def seeded_shards(manifest: Manifest, layout: tuple[ShardSpec, ...]) -> Iterator[Tensor]:
    """Yield the run's initial parameters per shard in layout order, flat [numel] f32."""
    for spec in layout:
        yield initial_shard(manifest.seed, spec, manifest.model.layers)


def stored_shards(
    layout: tuple[ShardSpec, ...], store: BlobStore, shards: tuple[ShardPayload, ...]
) -> Iterator[Tensor]:
    """Yield parameters from verified blobs per shard in layout order, flat [numel] f32.

    Raises: ProtocolError("shards") or ProtocolError("size") if they are not those of ``layout``,
    StateError("SK-DSK-002") if a blob is missing or damaged.
    """
    if tuple(shard.shard for shard in shards) != tuple(spec.name for spec in layout):
        raise ProtocolError("shards", f"{len(shards)} parameter shards are not those hosted")
    for spec, shard in zip(layout, shards, strict=True):
        # Looked up before reading: a wrong blob may be far larger than the shard.
        if store.size(shard.address) not in (None, spec.state_bytes):
            raise ProtocolError("size", f"{spec.name} is not {spec.state_bytes} bytes long")
        yield read_shard(store, shard.address, spec)
