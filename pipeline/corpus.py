"""The local text, as bytes, split into training and validation.

Text tokens are bytes. A piece of text (a file, a line of JSONL, a stretch of a single file) goes
to one part by a hash of its name and the run's seed, so that peers with the same files, in
whatever folder, agree on the split without talking. batches.py reads the training part,
evaluation.py the validation part.
"""

import codecs
import json
import logging
import math
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skerry.protocol.errors import ConfigError
from skerry.protocol.manifest import DataSection

MAX_CORPUS_BYTES = {"stdlib": 64 * 2**20, "text": 2**30, "jsonl": 2**30}
"""Text beyond this is left out, with a warning: the corpus is held in memory."""

BYTE_VALUES = 256

_NOT_SOURCES = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
)
_STRETCHES = 100
_STRETCH_BYTES = (1024, 64 * 1024)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """The two parts, each [bytes] uint8; no piece of text is in both."""

    training: NDArray[np.uint8]
    validation: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that is not divided between the parts."""

    name: str
    """What is hashed: relative path, or path and place within the file, or the text itself."""
    text: bytes


def load_corpus(data: DataSection, seed: int, context: int) -> Corpus:
    """Read the text of ``data`` and split it.

    Args:
        data: the manifest's section.
        seed: the manifest's; another seed splits otherwise.
        context: text tokens per sequence; each part must hold one window of ``context + 1``.
    Raises: ConfigError("SK-DAT-001") if there is too little text or it cannot be read,
        ConfigError("SK-DAT-002") if a line of JSONL is not an object with the text field.
    """
    pieces = list(_capped(_pieces(data), MAX_CORPUS_BYTES[data.source]))
    corpus = Corpus(*(_joined(part) for part in _split(pieces, data.validation_percent, seed)))
    for name, part in (("training", corpus.training), ("validation", corpus.validation)):
        if part.size < context + 1:
            raise ConfigError(
                "SK-DAT-001",
                f"{part.size} bytes of {name} text in {data.path or 'the standard library'}, "
                f"at least {context + 1} needed",
            )
    return corpus


def unigram_entropy(corpus: Corpus) -> float:
    """Cross-entropy of the validation bytes under the training part's byte frequencies.

    What a model reaches that knows how often each byte occurs and nothing else. Frequencies are
    add-one smoothed. Returns: nats per text token.
    """
    counts = np.bincount(corpus.training, minlength=BYTE_VALUES) + 1
    seen = np.bincount(corpus.validation, minlength=BYTE_VALUES)
    nats = math.log(int(counts.sum())) - np.log(counts)
    return float((seen * nats).sum() / seen.sum())


def _pieces(data: DataSection) -> Iterator[Piece]:
    if data.source == "stdlib":
        return _standard_library(Path(sysconfig.get_path("stdlib")))
    path = Path(data.path).expanduser()
    if not path.exists():
        raise ConfigError("SK-DAT-001", f"{path} does not exist")
    return _jsonl(path, data.field) if data.source == "jsonl" else _text(path)


def _standard_library(root: Path) -> Iterator[Piece]:
    for name, path in _files(root, without=_NOT_SOURCES):
        if name.endswith(".py"):
            yield Piece(name, _read(path))


def _text(path: Path) -> Iterator[Piece]:
    if path.is_file():
        text = _read(path)
        return _stretches(path.name, text) if _is_utf8(path, text) else iter(())
    files = ((name, file, _read(file)) for name, file in _files(path))
    return (Piece(name, text) for name, file, text in files if _is_utf8(file, text))


def _jsonl(path: Path, field: str) -> Iterator[Piece]:
    files = [(path.name, path)] if path.is_file() else _files(path)
    for name, file in files:
        if path.is_dir() and not name.endswith((".jsonl", ".ndjson")):
            continue
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                text = _field_of(line, field, f"{file}, line {number}")
                # Named by its own text: a line that occurs twice must not be in both parts.
                yield Piece(text, text.encode(errors="replace"))


def _field_of(line: bytes, field: str, where: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError("SK-DAT-002", f"{where}: not JSON ({error})") from None
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        raise ConfigError("SK-DAT-002", f"{where}: not an object with the text field {field!r}")
    text: str = record[field]
    return text


def _files(root: Path, without: frozenset[str] = frozenset()) -> list[tuple[str, Path]]:
    """List the regular files below ``root`` by relative path, in order.

    Hidden files and folders are left out, and folders named in ``without``.
    """
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name[0] != "." and name not in without]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                found.append((path.relative_to(root).as_posix(), path))
    return sorted(found)


def _read(path: Path) -> bytes:
    """Read no more than one byte past the limit of a user's text; _capped tells what is cut."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_CORPUS_BYTES["text"] + 1)
    except OSError as error:
        raise _unreadable(path, error) from None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError("SK-DAT-001", f"cannot read {path}: {error.strerror}")


def _is_utf8(path: Path, text: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError:
        logger.warning("%s is not UTF-8 and is left out of the corpus", path)
        return False
    return True


def _stretches(name: str, text: bytes) -> Iterator[Piece]:
    """Cut one file into about a hundred stretches, at line ends where there are any."""
    least, most = _STRETCH_BYTES
    size = min(max(len(text) // _STRETCHES, least), most)
    start = 0
    while start < len(text):
        line_end = text.find(b"\n", start + size - 1, start + 2 * size)
        end = line_end + 1 if line_end >= 0 else start + size
        yield Piece(f"{name}#{start}", text[start:end])
        start = end


def _capped(pieces: Iterable[Piece], limit: int) -> Iterator[Piece]:
    """Pass pieces on until ``limit`` bytes; the last one is cut short."""
    room = limit
    for piece in pieces:
        yield Piece(piece.name, piece.text[:room])
        room -= len(piece.text)
        if room < 0:
            logger.warning("the corpus is larger than %d bytes; the rest is left out", limit)
            return


def _split(pieces: list[Piece], percent: int, seed: int) -> tuple[list[Piece], list[Piece]]:
    """Divide into training and validation; with few pieces, at least one goes to each."""
    ranks = [_rank(piece.name, seed) for piece in pieces]
    if not ranks or min(ranks) == max(ranks):
        return pieces, []
    limit = min(max(percent * 2**64 // 100, min(ranks) + 1), max(ranks))
    training = [piece for piece, rank in zip(pieces, ranks, strict=True) if rank >= limit]
    validation = [piece for piece, rank in zip(pieces, ranks, strict=True) if rank < limit]
    return training, validation


def _rank(name: str, seed: int) -> int:
    hashed = blake2b(f"skerry split {seed} {name}".encode(errors="replace"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big")


def _joined(pieces: list[Piece]) -> NDArray[np.uint8]:
    """Concatenate, with a line end between pieces that do not bring their own."""
    text = b"".join(
        piece.text if piece.text.endswith(b"\n") else piece.text + b"\n"
        for piece in pieces
        if piece.text
    )
    return np.frombuffer(text, dtype=np.uint8)
