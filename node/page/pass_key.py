"""The secret that lets a browser write, and see the page of another machine: a file of its own.

Made on first use, kept over restarts, readable by its owner alone. Called "page token" where
users read of it; a run's token is something else.
"""

import hmac
import os
import secrets
from pathlib import Path

from skerry.protocol.blobs import disk_errors
from skerry.protocol.errors import ConfigError

_BYTES = 24
_MIN_LENGTH = 20


def load_or_create(path: Path) -> str:
    """Return the secret in ``path``, made if there is none.

    Raises: ConfigError("SK-KEY-002") if others may read it, ConfigError("SK-KEY-003") if it is
    none; StateError if it cannot be written.
    """
    with disk_errors():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return load(path)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secrets.token_urlsafe(_BYTES) + "\n")
    return load(path)


def load(path: Path) -> str:
    """Return the secret in ``path``. Raises: ConfigError, as above."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1024).strip()
    except OSError as error:
        raise ConfigError("SK-KEY-003", f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError("SK-KEY-002", f"{path} has mode {mode & 0o777:04o}, must be 0600")
    if len(text) < _MIN_LENGTH or not text.isascii() or not text.isprintable():
        raise ConfigError("SK-KEY-003", f"{path} holds no page token")
    return text


def sign_in_link(url: str, path: Path) -> str:
    """Return the page's address with the secret in ``path``. Raises: ConfigError."""
    return f"{url}?token={load(path)}"


def same(given: str, secret: str) -> bool:
    """Compare in a time that says nothing about where the two differ."""
    return hmac.compare_digest(given.encode(), secret.encode())
