"""What hosting stages takes: bytes on the wire and in memory, before anything is allocated.

Pure integers, no torch, so that a planner and ``--memory`` can ask: how many slots fit here? The
tests hold these numbers against what is measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from skerry.pipeline.capacity import BYTES_PER_PARAMETER
from skerry.pipeline.stages.cuts import EMBED, HEAD, ORIGIN, Stages, hosted_specs
from skerry.protocol.manifest import Manifest, ModelSection

_FLOAT_BYTES = 4
_GRADIENT_BYTES = 4
"""Of each parameter, summed over a step's microbatches."""
_ROW_HEADER_BYTES, _IDS_HEADER_BYTES = 8, 6
_ROW_BYTES = {"fp32": (0, 32), "bf16": (0, 16), "int8": (2, 8), "int4": (2, 4)}
"""Bytes of a row's scale, and bits of an entry."""


def payload_bytes(manifest: Manifest, sequences: int) -> int:
    """Return the size of a microbatch's activations, or of their gradients, as they are sent."""
    section = manifest.model
    scale, bits = _ROW_BYTES[manifest.ring.activations]
    row = scale + (section.subspace.dim or section.d_model) * bits // 8
    return _ROW_HEADER_BYTES + sequences * section.context * row


def text_bytes(manifest: Manifest, sequences: int) -> int:
    """Return the size of a microbatch's text token ids as they are sent; 0 if they are not."""
    if not manifest.model.subspace.dim:
        return 0
    return _ids_bytes(manifest.model, sequences * manifest.model.context)


def visit_bytes(manifest: Manifest, begins: bool, sequences: int) -> int:
    """Return what one visit keeps until its gradient comes; at the origin it begins."""
    if begins:
        return _ids_bytes(manifest.model, sequences * (manifest.model.context + 1))
    return text_bytes(manifest, sequences) + payload_bytes(manifest, sequences)


def debt_bytes(section: ModelSection, shards: Iterable[str], sequences: int) -> int:
    """Return what the gradients of these shards' weights keep of one microbatch."""
    tokens = sequences * section.context
    return sum(_shard_debt_bytes(section, shard, tokens) for shard in shards)


def work_bytes(section: ModelSection, stages: Stages, sequences: int) -> int:
    """Estimate what one microbatch takes while it is computed, debts aside.

    Counted from the operations of model.py, in rows per text token, as in capacity.py.
    """
    tokens = sequences * section.context
    rows = 14 * section.d_model + 4 * section.ffn_dim + 2 * section.heads * section.context
    blocks = sum("." in shard for shards in stages.values() for shard in shards)
    head = 3 * section.vocab_size if ORIGIN in stages else 0
    return _FLOAT_BYTES * tokens * (2 * section.d_model + max(blocks * rows, head))


@dataclass(frozen=True, slots=True)
class HostSize:
    """What one host of stages takes."""

    parameters: int
    """Bytes of parameters, their copy at the round's start, moments and gradients."""
    work: int
    """Bytes of one microbatch while it is computed."""
    debts: int
    """Bytes that one microbatch's debts keep; the host's limit, and once more while it computes."""
    slot: int
    """Bytes that each visit under way keeps."""

    def total(self, slots: int) -> int:
        """Return the bytes with so many slots."""
        return self.parameters + self.work + 2 * self.debts + slots * self.slot

    def slots(self, memory: int) -> int:
        """Return how many slots fit into ``memory`` bytes; 0 if not even one does."""
        return max(0, (memory - self.total(0)) // self.slot)


def host_size(manifest: Manifest, stages: Stages) -> HostSize:
    """Return what hosting these stages takes. Raises: ValueError as ``hosted_specs``."""
    section, sequences = manifest.model, manifest.ring.microbatch
    specs = hosted_specs(section, stages)
    params = sum(spec.numel for spec in specs)
    return HostSize(
        parameters=(BYTES_PER_PARAMETER + _GRADIENT_BYTES) * params,
        work=work_bytes(section, stages, sequences),
        debts=debt_bytes(section, (spec.name for spec in specs), sequences),
        slot=visit_bytes(manifest, ORIGIN in stages, sequences),
    )


def _shard_debt_bytes(section: ModelSection, shard: str, tokens: int) -> int:
    """Count inputs and gradients of outputs of each matrix; q, k and v share an input."""
    d, f, w = section.d_model, section.ffn_dim, section.written_dim
    if shard == EMBED:
        return tokens * (8 + _FLOAT_BYTES * d)
    if shard == HEAD:
        return _FLOAT_BYTES * (tokens * (d + section.vocab_size) + d)
    kv = d // section.heads * section.kv_heads
    inputs, gradients = 3 * d + f, d + 2 * kv + 2 * f + 2 * w
    return _FLOAT_BYTES * (tokens * (inputs + gradients) + 2 * d)


def _ids_bytes(section: ModelSection, count: int) -> int:
    bits = (section.vocab_size - 1).bit_length()
    return _IDS_HEADER_BYTES + (count * bits + 7) // 8
