"""Whether a model fits into this machine's memory, asked before any of it is allocated.

A process that the kernel kills for memory leaves no message; one that looks first does.
"""

import os
from pathlib import Path

from skerry.protocol.errors import ComputeError
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest, ModelSection

BYTES_PER_PARAMETER = 4 + 4 + 8
"""Theta, local copy, two AdamW moments. Error feedback lies on disk (feedback.py)."""

GRADIENT_BYTES = 4
"""Of each parameter, while training."""
EXCHANGE_BYTES = 4 + 4 + 4
"""Of each parameter of one shard at a time, between rounds, when there are no gradients. To fold:
the local copy, the error feedback, and, in place of the third, what encoding a span takes. To
apply: the mean of the contributions, which becomes the new parameters in its place, and the
payloads of all (0.02 each)."""

FLOAT_BYTES = 4
_GIB = 2**30
_MEMINFO = Path("/proc/meminfo")
_CGROUP_OF_SELF = Path("/proc/self/cgroup")
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_V1_LIMIT = _CGROUP_ROOT / "memory" / "memory.limit_in_bytes"


def check_memory(manifest: Manifest, available: int | None) -> None:
    """Refuse a model that cannot fit into ``available`` bytes; None means unknown and passes.

    Raises: ComputeError("SK-MEM-001") with both sizes.
    """
    check_room(needed_bytes(manifest), available)


def check_room(needed: int, available: int | None) -> None:
    """Refuse to need more bytes than there are, as ``check_memory``."""
    if available is not None and needed > available:
        raise ComputeError(
            "SK-MEM-001",
            f"training needs about {needed / _GIB:.1f} GiB, {available / _GIB:.1f} GiB are free",
        )


def needed_bytes(manifest: Manifest) -> int:
    """Return what the parameters and their state take, and the larger of training and exchange.

    Training adds gradients and the activations of one inner step, an exchange works on one shard.
    """
    sizes = [spec.numel for spec in layout_of(manifest.model)]
    activations = manifest.inner.batch_size * _activation_bytes(manifest.model)
    training = GRADIENT_BYTES * sum(sizes) + activations
    return BYTES_PER_PARAMETER * sum(sizes) + max(training, EXCHANGE_BYTES * max(sizes))


def available_bytes() -> int | None:
    """Return what this process may still allocate; None where the system does not tell."""
    known = [amount for amount in (_free_bytes(), _cgroup_limit()) if amount is not None]
    return min(known, default=None)


def block_activation_bytes(model: ModelSection) -> int:
    """Estimate what autograd keeps of one text token in one block.

    Counted from the operations of model.py: about 14 rows of d_model (norms, q, k, v, rotary
    halves, residuals), 4 of ffn_dim, and the attention weights where no fused kernel avoids them.
    """
    rows = 14 * model.d_model + 4 * model.ffn_dim + 2 * model.heads * model.context
    return FLOAT_BYTES * rows


def head_activation_bytes(model: ModelSection) -> int:
    """Estimate the same of head and loss: logits, their softmax and its gradient."""
    return FLOAT_BYTES * 3 * model.vocab_size


def _activation_bytes(model: ModelSection) -> int:
    """Return what autograd keeps of one sequence."""
    blocks = model.layers * block_activation_bytes(model)
    return model.context * (blocks + head_activation_bytes(model))


def _free_bytes() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return _sysconf_bytes()
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _sysconf_bytes()


def _sysconf_bytes() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # macOS knows no SC_AVPHYS_PAGES
        return None


def _cgroup_limit() -> int | None:
    """Return the lowest memory limit of this process's control groups, version 2 or 1."""
    limits = [_number(folder / "memory.max") for folder in _cgroup_folders()]
    known = [limit for limit in (*limits, _number(_V1_LIMIT)) if limit is not None]
    return min(known, default=None)


def _cgroup_folders() -> list[Path]:
    """List the folders of the version 2 hierarchy from this process's group up to the root."""
    try:
        lines = _CGROUP_OF_SELF.read_text().splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder = _CGROUP_ROOT / own
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(_CGROUP_ROOT))]


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max": no limit
