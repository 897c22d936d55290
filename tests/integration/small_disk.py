"""A small disk of one's own, to be filled: a tmpfs, which takes the right to mount one."""

import errno
import subprocess
from pathlib import Path


def mount(folder: Path, size: str) -> str:
    """Put a disk of ``size``, as "8m", at ``folder``; returns why there is none, or nothing."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no mount command"
    return done.stderr.strip() if done.returncode else ""


def unmount(folder: Path) -> None:
    """Take it away, whoever still uses it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until not a byte more fits."""
    with file.open("wb", buffering=0) as ballast:
        for size in (2**16, 2**10, 1):
            try:
                while ballast.write(bytes(size)):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC
