"""Where a node keeps everything: one folder, its files by name, and the lock that guards it.

Several nodes run on one machine by having several homes. Nothing outside the home is written,
except the control socket when the home's path is too long for one.
"""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from skerry.protocol.errors import DaemonError, StateError
from skerry.protocol.ids import RunId, is_hash

MAX_SOCKET_PATH_BYTES = 100
"""sun_path holds 108 bytes on Linux and 104 on macOS; some are left for suffixes."""


@dataclass(frozen=True, slots=True)
class RunHome:
    """The folder of one run inside a home."""

    folder: Path

    @property
    def manifest_file(self) -> Path:
        """The signed manifest, as an envelope."""
        return self.folder / "manifest.bin"

    @property
    def chain_file(self) -> Path:
        """The commits that this node has applied."""
        return self.folder / "chain.bin"

    @property
    def blobs(self) -> Path:
        """Folder of the blob store."""
        return self.folder / "blobs"

    @property
    def compute(self) -> Path:
        """Folder of the compute process: error feedback, ledger and moments."""
        return self.folder / "compute"

    @property
    def shadows(self) -> Path:
        """Folder of the stale copies that this node keeps for others."""
        return self.folder / "shadows"


class Home:
    """A node's home folder. Nothing is created before ``create``."""

    def __init__(self, path: Path) -> None:
        """Use ``path``, made absolute."""
        self.path = Path(os.path.abspath(path.expanduser()))

    @staticmethod
    def resolve(flag: Path | None, environ: Mapping[str, str] | None = None) -> "Home":
        """Choose the home: ``--home``, else SKERRY_HOME, else the XDG data folder."""
        env = os.environ if environ is None else environ
        if flag is not None:
            return Home(flag)
        if named := env.get("SKERRY_HOME"):
            return Home(Path(named))
        return Home(_data_home(env) / "skerry")

    @property
    def identity_file(self) -> Path:
        """The node's private key."""
        return self.path / "identity.pem"

    @property
    def config_file(self) -> Path:
        """The node's settings; need not exist."""
        return self.path / "config.toml"

    @property
    def lock_file(self) -> Path:
        """Locked while a daemon uses this home; holds its process id."""
        return self.path / "daemon.lock"

    @property
    def log_file(self) -> Path:
        """What a daemon in the background writes to stderr."""
        return self.path / "daemon.log"

    @property
    def events_file(self) -> Path:
        """The event log, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def page_token_file(self) -> Path:
        """The secret that lets a browser change something through the status page."""
        return self.path / "page.token"

    @property
    def compute_log(self) -> Path:
        """What compute processes write to stderr."""
        return self.path / "compute.log"

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.path / "runs"

    @property
    def control_socket(self) -> Path:
        """The unix socket of the daemon, in the home unless its path would be too long.

        Raises: StateError("SK-DSK-003") if the folder for long paths belongs to someone else.
        """
        direct = self.path / "control.sock"
        if len(os.fsencode(direct)) <= MAX_SOCKET_PATH_BYTES:
            return direct
        name = blake2b(os.fsencode(self.path), digest_size=8).hexdigest()
        return _runtime_folder() / f"{name}.sock"

    def run(self, run_id: RunId) -> RunHome:
        """Return the folder of one run. Raises: ValueError if ``run_id`` is not one."""
        if not is_hash(run_id):
            raise ValueError(f"{run_id[:80]!r} is not a run id")
        return RunHome(self.runs / run_id)

    def create(self) -> None:
        """Make the folder, for its owner only. Raises: StateError("SK-DSK-003")."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this home for one daemon, for as long as the context or the process lives.

        The kernel drops the lock with the process, so a killed daemon leaves nothing behind;
        the file itself stays, since removing it would let two daemons lock two files.
        Raises: DaemonError("SK-DMN-002") if another daemon holds it.
        """
        self.create()
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.lock_file, error) from None
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = file.read(32).decode("ascii", "replace").strip() or "unknown"
                detail = f"the daemon with process id {pid} uses {self.path}"
                raise DaemonError("SK-DMN-002", detail) from None
            try:
                file.truncate(0)
                file.write(b"%d\n" % os.getpid())
            except OSError as error:
                raise _unusable(self.lock_file, error) from None
            yield

    @property
    def in_use(self) -> bool:
        """Whether a daemon holds the lock."""
        try:
            file = self.lock_file.open("rb")
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


def _data_home(env: Mapping[str, str]) -> Path:
    """Return XDG_DATA_HOME; a relative one is ignored, as the specification asks."""
    named = env.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"


def _runtime_folder() -> Path:
    """Return a short folder that only this user can enter, made if missing."""
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isdir(named) and len(os.fsencode(named)) < MAX_SOCKET_PATH_BYTES - 40:
        folder = Path(named) / "skerry"
    else:
        folder = Path(tempfile.gettempdir()) / f"skerry-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error) from None
    # The folder may lie in /tmp, where anyone could have made it first.
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if found.st_uid != os.getuid() or not private:
        raise StateError("SK-DSK-003", f"{folder} is not a folder of this user alone")
    return folder


def _unusable(path: Path, error: OSError) -> StateError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StateError("SK-DSK-001", f"no space left for {path}")
    return StateError("SK-DSK-003", f"{path} cannot be used: {error.strerror}")
