"""Error feedback and ledger on disk: one safetensors file, written whole or not at all.

The two are one file because they are only right together: the ledger says which payloads are
missing from the error feedback. A hash over both is kept in the metadata, since safetensors
itself notices a cut file but not a flipped bit.
"""

import logging
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from skerry.pipeline.ledger import Ledger, ledger_from_json, ledger_to_json
from skerry.protocol.blobs import write_atomic
from skerry.protocol.ids import HASH_BYTES, RunId
from skerry.protocol.layout import ShardSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent pair of error feedback and ledger."""

    vectors: list[Tensor]
    """Error feedback per shard in layout order, flat [numel] f32."""
    pending: int
    """Text tokens trained but in no contribution; negative while a debt is outstanding."""
    ledger: Ledger


def save_snapshot(
    path: Path, run_id: RunId, layout: tuple[ShardSpec, ...], snapshot: Snapshot
) -> None:
    """Write ``snapshot`` durably. Raises: StateError("SK-DSK-001") on a full disk."""
    named = {spec.name: vector for spec, vector in zip(layout, snapshot.vectors, strict=True)}
    facts = {
        "run_id": str(run_id),
        "pending": str(snapshot.pending),
        "ledger": ledger_to_json(snapshot.ledger),
    }
    facts["hash"] = _hash(facts, snapshot.vectors)
    write_atomic(path, save(named, metadata=facts))


def load_snapshot(path: Path, run_id: RunId, layout: tuple[ShardSpec, ...]) -> Snapshot | None:
    """Return what was saved; None if there is nothing, or nothing that can be trusted."""
    if not path.exists():
        return None
    try:
        return _read(path, run_id, layout)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        log.warning("the error feedback in %s is damaged and starts from zero: %s", path, error)
        return None


def _read(path: Path, run_id: RunId, layout: tuple[ShardSpec, ...]) -> Snapshot:
    with safe_open(path, framework="pt") as file:
        facts: dict[str, str] = file.metadata() or {}
        # clone: the tensors must not stay mapped to a file that is about to be replaced
        vectors = [file.get_tensor(spec.name).clone() for spec in layout]
    wanted = facts.pop("hash")
    for spec, vector in zip(layout, vectors, strict=True):
        if tuple(vector.shape) != (spec.numel,):
            raise ValueError(f"{spec.name} has shape {tuple(vector.shape)}, not ({spec.numel},)")
    if facts["run_id"] != run_id or wanted != _hash(facts, vectors):
        raise ValueError("it is of another run or does not match its hash")
    return Snapshot(vectors, int(facts["pending"]), ledger_from_json(facts["ledger"]))


def _hash(facts: dict[str, str], vectors: list[Tensor]) -> str:
    digest = blake2b(digest_size=HASH_BYTES)
    for key in sorted(facts):
        digest.update(f"{key}={facts[key]}\n".encode())
    for vector in vectors:
        digest.update(vector.numpy().data)
    return digest.hexdigest()
