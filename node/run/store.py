"""What a node keeps of its run on disk, besides the blobs: manifest, token, chain, own words.

Every file is either replaced whole or only appended to; a tail cut by a crash is dropped.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from skerry.node.home import RunHome
from skerry.node.run.chain_file import ChainFile
from skerry.node.run.facts import Facts
from skerry.node.run.frame_file import Frame, append, framed, read_frames
from skerry.node.run.measured import MAX_BYTES, facts_from_json
from skerry.node.run.shadow_store import ShadowStore
from skerry.protocol.blobs import disk_errors, write_atomic
from skerry.protocol.codec import decode_envelope, encode_envelope, open_envelope
from skerry.protocol.messages import (
    Announce,
    Envelope,
    MemberRecord,
    Message,
    Order,
    Signed,
    SignedAnnounce,
    SignedMember,
    SignedOrder,
)
from skerry.protocol.rounds.events import LocalState
from skerry.protocol.shading import SHADOWS_FOLDER

_LOG = logging.getLogger(__name__)
MAX_OWN = 128
"""Own announcements kept; older ones cannot change their fate any more."""
MAX_KEPT_ORDERS = 256
"""Orders kept; older ones are in the chain."""
_STATES: TypeAdapter[tuple[LocalState, ...]] = TypeAdapter(tuple[LocalState, ...])


class OrderFile:
    """Orders of the run's owner, kept until a commit holds them."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``, which need not exist."""
        self._path = path

    def append(self, orders: Iterable[SignedOrder], durably: bool = False) -> None:
        """Add orders. Raises: StateError."""
        append(self._path, framed(order.envelope for order in orders), durably)

    def load(self) -> tuple[SignedOrder, ...]:
        """Return the newest orders and forget the others."""
        opened = _items(read_frames(self._path, open_envelope))
        if len(opened) > MAX_KEPT_ORDERS:
            opened = opened[-MAX_KEPT_ORDERS:]
            write_atomic(self._path, framed(o.envelope for o in opened))
        return tuple(Signed(o.message, o.envelope) for o in opened if isinstance(o.message, Order))


class RunStore:
    """The files of one run."""

    def __init__(self, home: RunHome) -> None:
        """Use the run's folder, created if missing."""
        self._home = home
        with disk_errors():
            for folder in (home.folder, home.blobs, home.compute):
                folder.mkdir(parents=True, exist_ok=True)
        self.chain = ChainFile(home.chain_file)
        self.orders = OrderFile(home.folder / "orders.bin")
        self.shadows = ShadowStore(home.shadows)
        self.own_shadows = home.compute / SHADOWS_FOLDER
        """Copies of the stages that are hosted here, on their way to others."""

    def save_manifest(self, manifest: Envelope, token: str) -> None:
        """Keep the signed manifest and the token by which this node takes part."""
        write_atomic(self._token_file, token.encode())
        write_atomic(self._home.manifest_file, encode_envelope(manifest))

    def load_manifest(self) -> tuple[Envelope, str]:
        """Return what save_manifest kept. Raises: OSError, ProtocolError."""
        manifest = decode_envelope(self._home.manifest_file.read_bytes())
        return manifest, self._token_file.read_text(errors="replace")

    @property
    def paused(self) -> bool:
        """Whether the user has paused this node's part in the run."""
        return self._paused_file.exists()

    def keep_paused(self, paused: bool) -> None:
        """Remember a pause over restarts, or that it has ended. Raises: StateError."""
        with disk_errors():
            if paused:
                write_atomic(self._paused_file, b"")
            else:
                self._paused_file.unlink(missing_ok=True)

    def append_own(self, announce: SignedAnnounce) -> None:
        """Keep an own announcement; done before it is sent, so that a restart repeats it."""
        append(self._own_file, framed([announce.envelope]), durably=True)

    def load_own(self) -> tuple[SignedAnnounce, ...]:
        """Return the newest own announcements and forget the others."""
        opened = _items(read_frames(self._own_file, open_envelope))[-MAX_OWN:]
        write_atomic(self._own_file, framed(o.envelope for o in opened))
        return tuple(
            Signed(o.message, o.envelope) for o in opened if isinstance(o.message, Announce)
        )

    def save_members(self, members: Iterable[SignedMember]) -> None:
        """Keep the newest records of all members, to find them again after a restart."""
        write_atomic(self._members_file, framed(member.envelope for member in members))

    def load_members(self) -> tuple[SignedMember, ...]:
        """Return the member records that were kept."""
        opened = _items(read_frames(self._members_file, open_envelope))
        return tuple(
            Signed(o.message, o.envelope) for o in opened if isinstance(o.message, MemberRecord)
        )

    def save_states(self, states: tuple[LocalState, ...]) -> None:
        """Keep the list of the states that lie in the blob store."""
        write_atomic(self._states_file, _STATES.dump_json(states))

    def load_states(self) -> tuple[LocalState, ...]:
        """Return the states that lie in the blob store; none if the list is damaged."""
        try:
            return _STATES.validate_json(self._states_file.read_bytes())
        except FileNotFoundError:
            return ()
        except ValidationError:
            _LOG.warning("%s is damaged and ignored", self._states_file)
            return ()

    def save_facts(self, data: bytes) -> None:
        """Keep the measurements of the run (measured.py)."""
        write_atomic(self._facts_file, data)

    def load_facts(self) -> Facts:
        """Return the measurements that were kept; new ones if none were or they are damaged."""
        try:
            with self._facts_file.open("rb") as file:
                return facts_from_json(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            return Facts()
        except (OSError, ValueError) as error:
            _LOG.warning("%s is damaged and ignored: %s", self._facts_file, _first_line(error))
            return Facts()

    @property
    def _facts_file(self) -> Path:
        return self._home.folder / "facts.json"

    @property
    def _states_file(self) -> Path:
        return self._home.folder / "states.json"

    @property
    def _paused_file(self) -> Path:
        return self._home.folder / "paused"

    @property
    def _members_file(self) -> Path:
        return self._home.folder / "members.bin"

    @property
    def _own_file(self) -> Path:
        return self._home.folder / "own.bin"

    @property
    def _token_file(self) -> Path:
        return self._home.folder / "token"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _items(frames: Iterable[Frame[Signed[Message]]]) -> list[Signed[Message]]:
    return [frame.item for frame in frames]
