"""Files that a user names: text of a bounded size."""

from pathlib import Path

from skerry.protocol.errors import ConfigError


def read_text(path: Path, max_bytes: int) -> str:
    """Return a file's text. Raises: ConfigError("SK-CFG-003") or ConfigError("SK-CFG-002")."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError("SK-CFG-003", f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError("SK-CFG-003", f"{path} is not text in UTF-8") from None
    if len(text) > max_bytes:
        raise ConfigError("SK-CFG-002", f"{path} exceeds {max_bytes} bytes")
    return text
