"""Recording every event with its time, and every decision it led to (replay.py reads them).

One JSON object a line: first what the node started from, then each event, followed by the names
and a digest of its decisions if there were any. Signed messages are kept as their envelopes, in
base64. Written by a thread of its own, so that a slow disk does not hold up the node.
"""

import base64
import dataclasses
import json
import logging
import time
import types
import typing
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from skerry.node.run.state import NodeEvent, NodeState
from skerry.protocol.codec import decode_envelope, encode_envelope, open_envelope
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import parse_canonical
from skerry.protocol.messages import Signed, SignedMember
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.commits import Archive
from skerry.protocol.rounds.state import NO_ARCHIVE, new_state, rules_of
from skerry.protocol.token import check_member
from skerry.recovery.detector import Detector, DetectorConfig
from skerry.recovery.standing import Register, rules_at

_LOG = logging.getLogger(__name__)
MAX_BYTES = 256 * 2**20
"""Heartbeats of two other peers fill it in about four days, those of sixty in three hours."""
_DIGEST_BYTES = 8
_EVENTS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(NodeEvent)}
Json = Any


class Recorder:
    """Writes events to a file until it is full or the disk is; never raises because of it."""

    def __init__(self, path: Path, start: Json, max_bytes: int = MAX_BYTES) -> None:
        """Begin a new recording with what ``start_of`` returned; one older is kept beside it."""
        self._path, self._max_bytes = path, max_bytes
        self._written = 0
        self._thread = ThreadPoolExecutor(1, "recorder")
        self.ended = ""
        """Why nothing more is recorded; empty while recording."""
        self._thread.submit(self._begin, start)

    def record(self, event: NodeEvent, now: float) -> None:
        """Add an event, before it is decided upon: one that ends the node is on disk, too."""
        self._thread.submit(self._append, _event_entry, event, now)

    def decided(self, actions: list[Action]) -> None:
        """Add what the event led to."""
        if actions:
            self._thread.submit(self._append, decisions, actions)

    def close(self) -> None:
        """Return when everything is written."""
        self._thread.shutdown()

    def _begin(self, start: Json) -> None:
        try:
            if self._path.exists():
                self._path.replace(old_recording(self._path))
        except OSError as error:
            self._end(str(error))
        self._append(lambda: {"start": start})

    def _append(self, entry: typing.Callable[..., Json], *arguments: object) -> None:
        if self.ended:
            return
        line = _line(entry(*arguments))
        try:
            if self._written + len(line) > self._max_bytes:
                reason = f"it has reached its limit of {self._max_bytes} bytes"
                self._write(_line({"ended": reason}))
                self._end(reason)
                return
            self._write(line)
        except OSError as error:
            self._end(str(error))

    def _write(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)
        self._written += len(line)

    def _end(self, reason: str) -> None:
        self.ended = reason
        _LOG.warning("the recording of events in %s has ended: %s", self._path, reason)


def old_recording(path: Path) -> Path:
    """Return where the recording before the one at ``path`` is kept."""
    return path.with_suffix(f".old{path.suffix}")


def start_of(
    me: PeerId,
    manifest: bytes,
    limits: tuple[tuple[str, int], ...],
    heartbeat_s: float,
    now: float,
    *,
    replica_bytes: int = 0,
    whole: bool = True,
) -> Json:
    """Return what a recording begins with.

    Args:
        now: monotonic seconds.
        replica_bytes: memory that hosting the whole model takes.
        whole: whether this peer can.
    """
    return {
        "version": version("skerry"),
        "me": me,
        "manifest": manifest.decode(),
        "limits": [list(limit) for limit in limits],
        "replica_bytes": replica_bytes,
        "whole": whole,
        "heartbeat_s": heartbeat_s,
        "now": now,
        "time": time.time(),
    }


def initial_state(start: Json, archive: Archive = NO_ARCHIVE) -> NodeState:
    """Return the state that a recording, or a node, starts from. Raises: ConfigError."""
    manifest = parse_canonical(start["manifest"].encode())
    limits = tuple((str(name), int(limit)) for name, limit in start["limits"])
    run_id, keys, mode = manifest.run_id, manifest.owner_keys, manifest.admission.mode

    def admission(member: SignedMember) -> None:
        # Expiry counts when a peer first says hello; a commit stays valid for ever.
        check_member(member, run_id, keys, mode, now=0)

    rules = rules_of(manifest, limits, int(start["replica_bytes"]))
    whole = bool(start["whole"])
    rounds = new_state(start["me"], rules, admission, start["now"], archive, whole)
    gap = start["heartbeat_s"]
    detector = Detector(DetectorConfig(min_s=2 * gap, expected_gap_s=gap))
    return NodeState(rounds, detector, Register(rules_at(gap)))


def read_event(entry: Json) -> NodeEvent:
    """Read an event's entry. Raises: ValueError, KeyError, TypeError, ProtocolError."""
    return cast(NodeEvent, _restored(_EVENTS[entry["event"]], entry["data"]))


def decisions(actions: list[Action]) -> Json:
    """Return the entry for actions: their names, and a digest of all that they hold."""
    data = _line([_plain(action) for action in actions])
    names = [type(action).__name__ for action in actions]
    return {"did": names, "digest": blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()}


def _event_entry(event: NodeEvent, now: float) -> Json:
    return {"t": now, "event": type(event).__name__, "data": _plain(event)}


def _line(entry: Json) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _plain(value: object) -> Json:
    """Turn an event, an action, or a field of one into JSON."""
    if isinstance(value, Signed):
        return base64.b64encode(encode_envelope(value.envelope)).decode()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, frozenset):
        return sorted(cast(Iterable[Any], value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _restored(kind: object, data: Json) -> object:
    """Turn JSON back into a field of type ``kind``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Signed:
        opened = open_envelope(decode_envelope(base64.b64decode(data)))
        return Signed(opened.message, opened.envelope)
    if origin in (types.UnionType, typing.Union):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if data is None else _restored(inner, data)
    if origin is tuple:
        kinds = arguments[:1] * len(data) if arguments[-1] is Ellipsis else arguments
        return tuple(_restored(k, item) for k, item in zip(kinds, data, strict=True))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _restored(hints[name], item) for name, item in data.items()})
    return data
