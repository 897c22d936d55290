"""The runs that a home keeps, also those that the node has left."""

from dataclasses import dataclass

from skerry.node.home import Home
from skerry.node.run.store import RunStore
from skerry.protocol.errors import ConfigError, SkerryError
from skerry.protocol.ids import RunId, is_hash
from skerry.protocol.manifest import parse_canonical


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run of which the home has manifest and token."""

    run_id: RunId
    name: str
    kept_at: float
    """Unix seconds: when this node took part in it last, or nearly so."""


def kept_runs(home: Home) -> list[KeptRun]:
    """Return the runs that can be gone on with, the newest first."""
    folders = home.runs.iterdir() if home.runs.is_dir() else ()
    found = [_kept(home, RunId(folder.name)) for folder in folders if is_hash(folder.name)]
    return sorted((one for one in found if one), key=lambda one: one.kept_at, reverse=True)


def kept_run(home: Home, wanted: str) -> RunId:
    """Return the run of a name or the beginning of an id; the newest for "".

    Raises: ConfigError("SK-CFG-004") if there is none, or more than one.
    """
    known = kept_runs(home)
    found = [one for one in known if one.name == wanted or one.run_id.startswith(wanted)]
    if len(found) == 1 or (found and not wanted):
        return found[0].run_id
    listed = ", ".join(f"{one.name} ({one.run_id[:8]})" for one in known) or "no run"
    what = f"{len(found)} runs are meant by {wanted[:80]!r}" if wanted else "there is none"
    raise ConfigError("SK-CFG-004", f"{what}; this home keeps {listed}")


def _kept(home: Home, run_id: RunId) -> KeptRun | None:
    folder = home.run(run_id)
    try:
        envelope, _ = RunStore(folder).load_manifest()
        name = parse_canonical(envelope.body).name
        newest = max(file.stat().st_mtime for file in folder.folder.iterdir() if file.is_file())
    except (SkerryError, OSError):
        return None
    return KeptRun(run_id, name, newest)
