"""A service manager's command that notes what it is asked: the real one may not run here."""

from collections.abc import Callable
from pathlib import Path

import pytest


class Recorded:
    """A program on the path; ``asked`` gives the arguments of its calls so far."""

    def __init__(self, folder: Path, name: str) -> None:
        self._log, self._failing = folder / f"{name}.log", folder / f"{name}.failing"
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "$*" >> "{self._log}"\n'
            f'if grep -qsFx -- "$(echo "$*" | cut -d" " -f1-2)" "{self._failing}"; then\n'
            '  echo "Failed: $*" >&2; exit 3\nfi\n'
        )
        program.chmod(0o755)

    def fails(self, *commands: str) -> None:
        """From now on fail for these first two words, and for no others."""
        self._failing.write_text("".join(f"{command}\n" for command in commands))

    def asked(self) -> list[str]:
        """Return the calls since this was last asked."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def recorded(tmp_path, monkeypatch) -> Callable[[str], Recorded]:
    """Put a recording program of a name first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return lambda name: Recorded(folder, name)
