"""The node's identity: one Ed25519 key in a PEM file that only its owner can read."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from skerry.protocol.blobs import disk_errors
from skerry.protocol.errors import ConfigError, StateError


def load_or_create_identity(path: Path) -> Ed25519PrivateKey:
    """Return the key in ``path``; a new one is made if there is no file.

    The file appears whole or not at all, and the first of two starts at once wins.
    Raises: ConfigError("SK-KEY-001") or ConfigError("SK-KEY-002"), StateError.
    """
    if not path.exists():
        _create(path)
    return load_identity(path)


def load_identity(path: Path) -> Ed25519PrivateKey:
    """Return the key in ``path``.

    Raises: ConfigError("SK-KEY-001") if it is no Ed25519 key in PEM, ConfigError("SK-KEY-002")
    if other users may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(64 * 1024)
    except OSError as error:
        raise ConfigError("SK-KEY-001", f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError("SK-KEY-002", f"{path} has mode {mode & 0o777:04o}, must be 0600")
    return _parse(path, pem)


def _parse(path: Path, pem: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # TypeError: the key is encrypted. The message must not repeat what the file holds.
        raise ConfigError("SK-KEY-001", f"{path} is not an unencrypted key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("SK-KEY-001", f"{path} holds another kind of key than Ed25519")
    return key


def _create(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        _write_private(temporary, pem)
        # Unlike a rename, a link never replaces a key that another process made meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError as error:
        raise StateError("SK-DSK-003", f"{path} cannot be made: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_private(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, whatever the umask, and bring it to the disk."""
    with disk_errors():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
