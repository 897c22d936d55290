"""AdamW's moments on this peer's own disk, for its next start: the newest and those before.

Written once a round, when its contribution is on its way, and read when a process begins that has
none. Each of the two files is sealed (sealed_file.py): one that is torn or altered is refused, and
the other one used; without any the learning rate rises anew (adamw.py). Nothing else depends on
them, so what prevents writing them, as a full disk does, is told and prevents nothing else.

A file's vectors are those of moments.py by shard; its note says of which run, round and steps.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor

from skerry.pipeline.moments import ShardVector
from skerry.pipeline.sealed_file import Form, remove_unfinished, sealing, verified
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.ids import RunId
from skerry.protocol.layout import ShardSpec

NEWEST, BEFORE = "moments.safetensors", "moments.before.safetensors"
_NOTE = "about"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class About:
    """What a file's moments are of."""

    run_id: RunId
    round: int
    """At whose end they were so."""
    steps: dict[str, int]
    """That those of each shard are made of, in the order of the file."""


_ABOUT = TypeAdapter(About)


class KeptMoments:
    """One run's moments in the folder of its compute process."""

    def __init__(self, folder: Path, run_id: RunId) -> None:
        """Keep them in ``folder``."""
        self._newest, self._before, self._run_id = folder / NEWEST, folder / BEFORE, run_id
        remove_unfinished(self._newest)

    def write(self, number: int, stepped: Sequence[ShardSpec], some: Iterable[ShardVector]) -> None:
        """Keep the moments of the shards ``stepped`` as those of the end of a round, durably.

        What prevents it is told in the log, and what was kept stays.
        """
        form = Form([(spec.name, 2 * spec.numel) for spec in stepped], torch.bfloat16, _NOTE)
        try:
            with sealing(self._newest, form) as writer:
                steps: dict[str, int] = {}
                for one in some:
                    writer.add(one.flat)
                    steps[one.spec.name] = one.steps
                writer.finish(_ABOUT.dump_json(About(self._run_id, number, steps)))
                if self._newest.exists():
                    os.replace(self._newest, self._before)
        except (StateError, OSError) as error:
            log.warning("the optimizer's moments are not kept on disk: %s", error)

    def newest(self) -> "Held | None":
        """Return the newest that are whole; what is damaged is removed."""
        for path in (self._newest, self._before):
            if not path.exists():
                continue
            try:
                return Held(path, self._checked(path))
            except (SafetensorError, OSError, ValueError) as error:
                log.warning("the moments in %s are damaged and not taken: %s", path, error)
                path.unlink(missing_ok=True)
        return None

    def forget(self) -> None:
        """Remove all that is kept."""
        for path in (self._newest, self._before):
            path.unlink(missing_ok=True)

    def _checked(self, path: Path) -> About:
        with safe_open(path, framework="pt") as file:
            names = _ABOUT.validate_json(bytes(file.get_tensor(_NOTE).numpy())).steps
        about = _ABOUT.validate_json(verified(path, names, _NOTE))
        if about.run_id != self._run_id:
            raise ValueError(f"they are of another run, {about.run_id[:8]}")
        return about


@dataclass(frozen=True, slots=True)
class Held:
    """A file that is whole."""

    path: Path
    about: About

    def read(self, spec: ShardSpec) -> ShardVector:
        """Return the moments of a shard, mapped from the file.

        Raises: ProtocolError("moments") if there are none of that name and form, StateError if
        the file cannot be read any more.
        """
        if spec.name not in self.about.steps:
            raise ProtocolError("moments", f"none of {spec.name} on the own disk")
        try:
            with safe_open(self.path, framework="pt") as file:
                flat: Tensor = file.get_tensor(spec.name)
        except (SafetensorError, OSError) as error:
            raise StateError("SK-DSK-002", f"{self.path} cannot be read: {error}") from None
        if (tuple(flat.shape), flat.dtype) != ((2 * spec.numel,), torch.bfloat16):
            raise ProtocolError("moments", f"those of {spec.name} are {tuple(flat.shape)}")
        return ShardVector(spec, self.about.steps[spec.name], flat)
