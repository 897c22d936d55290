"""The measurements that a run keeps over restarts of its node, as JSON for facts.json.

What is read back is shown and nothing else, so a damaged file costs figures, not the run.
"""

import math
from collections import Counter
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from skerry.node.run.facts import Facts

MAX_BYTES = 64 * 1024
"""No such file is larger: what it counts by are a few kinds and a bounded number of reasons."""
_MAX_NAMES = 256

Name = Annotated[str, Field(max_length=80)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Counts = Annotated[dict[Name, Count], Field(max_length=_MAX_NAMES)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Measured(BaseModel):
    """What is kept; each field is the one of ``Facts`` of that name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Finite = 0.0
    val_loss_start: Finite = 0.0
    val_loss: Finite = 0.0
    validated_round: Annotated[int, Field(ge=-1)] = -1
    sent_bytes: Counts = {}
    received_bytes: Counts = {}
    ring_sent: Counts = {}
    ring_text_tokens: Count = 0
    dense_bytes: Count = 0
    refused: Counts = {}


def to_json(facts: Facts) -> bytes:
    """Return what is to be kept of ``facts``, as they are now."""
    kept = Measured.model_construct(
        loss=facts.loss if math.isfinite(facts.loss) else 0.0,
        val_loss_start=facts.val_loss_start,
        val_loss=facts.val_loss,
        validated_round=facts.validated_round,
        sent_bytes=dict(facts.sent_bytes),
        received_bytes=dict(facts.received_bytes),
        ring_sent=dict(facts.ring_sent),
        ring_text_tokens=facts.ring_text_tokens,
        dense_bytes=facts.dense_bytes,
        refused={reason[:80]: count for reason, count in facts.refused.items()},
    )
    return kept.model_dump_json().encode()


def facts_from_json(data: bytes) -> Facts:
    """Return facts that begin with what ``to_json`` kept. Raises: ValueError."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, limit {MAX_BYTES}")
    kept = Measured.model_validate_json(data)
    return Facts(
        loss=kept.loss,
        val_loss_start=kept.val_loss_start,
        val_loss=kept.val_loss,
        validated_round=kept.validated_round,
        sent_bytes=Counter(kept.sent_bytes),
        received_bytes=Counter(kept.received_bytes),
        ring_sent=Counter(kept.ring_sent),
        ring_text_tokens=kept.ring_text_tokens,
        dense_bytes=kept.dense_bytes,
        refused=Counter(kept.refused),
    )
