"""Every error a user can meet, as one tree.

SkerryError
├── ConfigError          the user's file, flag, environment or data is wrong  exit 2
├── TokenError           a join token or manifest is malformed or forged      exit 3
├── NetworkError         a peer, address or port cannot be used               exit 4
│   └── PeerUnavailable  one peer did not answer in time
├── ProtocolError        a peer broke the rules                               exit 5
│   └── InputFault       what a neighbour in a ring sent cannot be used
├── StateError           parameters, checkpoints or disk                      exit 6
├── ComputeError         the compute process failed                          exit 7
├── DaemonError          the local daemon is missing, busy or of another run  exit 8
└── OrderError           an order of the run's owner cannot be given          exit 9

Each carries a code of the CATALOG, which gives its cause and its fix. docs/errors.md is generated
from the catalog and from this tree: the first sentence of a class stands beside its exit code.
"""

from typing import ClassVar

from skerry.protocol.error_catalog import CATALOG


class SkerryError(Exception):
    """Base of all errors that a user may see: a code, what happened, and the fix."""

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, detail: str) -> None:
        """Build an error of a code in the CATALOG; ``detail`` says what, got and allowed."""
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")

    @property
    def fix(self) -> str:
        """What the user can do about it."""
        return CATALOG[self.code].fix


class ConfigError(SkerryError):
    """The user's file, flag, environment or data is wrong."""

    exit_code = 2


class TokenError(SkerryError):
    """A join token or manifest is malformed or forged."""

    exit_code = 3


class NetworkError(SkerryError):
    """A peer, address or port cannot be used."""

    exit_code = 4


class PeerUnavailable(NetworkError):
    """One peer did not answer in time or closed the connection."""


class ProtocolError(SkerryError):
    """A peer broke the rules.

    ``reason`` is the short name under which the refusal is counted.
    """

    exit_code = 5

    def __init__(self, reason: str, detail: str, code: str = "SK-PRO-004") -> None:
        """Build a refusal named ``reason``; the caller adds which peer it was."""
        self.reason = reason
        super().__init__(code, detail)


class InputFault(ProtocolError):
    """What a neighbour in a ring sent cannot be used, so that one is at fault."""


class StateError(SkerryError):
    """Parameters, a checkpoint or the disk."""

    exit_code = 6


class ComputeError(SkerryError):
    """The compute process failed."""

    exit_code = 7


class DaemonError(SkerryError):
    """The local daemon is missing, busy or of another run."""

    exit_code = 8


class OrderError(SkerryError):
    """An order of the run's owner cannot be given."""

    exit_code = 9


FAMILIES: dict[str, type[SkerryError]] = {
    "CFG": ConfigError,
    "KEY": ConfigError,
    "DAT": ConfigError,
    "PLN": ConfigError,
    "TOK": TokenError,
    "MAN": TokenError,
    "NET": NetworkError,
    "PRO": ProtocolError,
    "DSK": StateError,
    "MEM": ComputeError,
    "CMP": ComputeError,
    "DMN": DaemonError,
    "OWN": OrderError,
    "DEMO": SkerryError,
}
"""The middle part of a code, and the class that carries it."""


def family_of(code: str) -> str:
    """Return the middle part of a code, such as ``NET``; empty if it has not three parts."""
    return code.split("-")[1] if code.count("-") == 2 else ""


def from_code(code: str, detail: str) -> SkerryError:
    """Rebuild an error that crossed a process border as (code, detail).

    A code that this version does not know is a fault of the other side, not of the user.
    """
    if family_of(code) == "PRO":
        return ProtocolError("remote", detail, code if code in CATALOG else "SK-PRO-004")
    if code not in CATALOG:
        return DaemonError("SK-DMN-006", f"{code}: {detail}")
    return FAMILIES[family_of(code)](code, detail)
