"""The p2pd child process: its arguments, its identity file, its birth and its certain death.

We start p2pd ourselves instead of letting hivemind do it, so that its end can be awaited, its
output is ours, and three independent things end it when this process is killed: a parent-death
signal (set by a small wrapper that then becomes p2pd), p2pd's own exit when its persistent
client goes away, and a pid file with which the next start ends exactly the process that the
last one left, after checking its command line.
"""

import asyncio
import contextlib
import errno
import logging
import os
import select
import signal
import socket
import sys
from collections import deque
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import hivemind.hivemind_cli
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.protocol.blobs import write_atomic
from skerry.protocol.errors import NetworkError

_LOG = logging.getLogger(__name__)
# Only one that hangs takes so long: a start with every processor busy takes some seconds.
_START_SECONDS = 120.0
_STOP_SECONDS = 3.0
# A libp2p PrivateKey message {Type: Ed25519 (1), Data: 64 bytes, seed then public key}.
_KEY_PREFIX = bytes([0x08, 0x01, 0x12, 0x40])
# Runs before p2pd in its own process: ask the kernel to kill us with our parent (PR_SET_PDEATHSIG
# is 1, and survives the exec), then make sure that the parent was still there when we asked.
_WRAPPER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class P2pdOptions:
    """How this node appears in the network."""

    run_dir: Path
    """Existing private folder for the identity and pid files."""
    host: str = "127.0.0.1"
    """IP address to listen on; "0.0.0.0" for all interfaces."""
    port: int = 0
    """TCP port to listen on; 0 for any free one, which is then kept over restarts of p2pd."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs with ``/p2p``: the peers that may relay for us if we are behind a NAT."""
    nat: bool | None = None
    """Relays, AutoNAT and port mapping; None: unless ``host`` is a loopback address."""
    reachability: Literal["auto", "public", "private"] = "auto"
    """What others can do: AutoNAT finds out, or it is known."""

    @property
    def is_relay(self) -> bool:
        """Whether this node is to relay for others."""
        return self.reachability == "public"

    @property
    def traverses_nat(self) -> bool:
        """Whether p2pd is to get around NATs."""
        return not ip_address(self.host).is_loopback if self.nat is None else self.nat

    @property
    def identity(self) -> Path:
        """The key file that p2pd reads."""
        return self.run_dir / "p2pd.key"

    @property
    def pid_file(self) -> Path:
        """Says which p2pd runs."""
        return self.run_dir / "p2pd.pid"


def p2pd_binary() -> Path:
    """Return where hivemind's p2pd lies. Raises: NetworkError("SK-NET-004")."""
    path = Path(hivemind.hivemind_cli.__file__).with_name("p2pd")
    if not os.access(path, os.X_OK):
        raise NetworkError("SK-NET-004", f"{path} is missing or not executable")
    return path


def write_identity(options: P2pdOptions, key: Ed25519PrivateKey) -> None:
    """Write ``key`` in libp2p's format, readable by this user only."""
    data = _KEY_PREFIX + key.private_bytes_raw() + key.public_key().public_bytes_raw()
    options.identity.unlink(missing_ok=True)
    descriptor = os.open(options.identity, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def check_port(host: str, port: int) -> None:
    """Make sure that p2pd can listen there.

    p2pd itself sets SO_REUSEPORT, so two of one user would silently share a port.
    Raises: NetworkError("SK-NET-002") if it is in use, NetworkError("SK-NET-004") otherwise.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            code = "SK-NET-002" if error.errno == errno.EADDRINUSE else "SK-NET-004"
            raise NetworkError(code, f"{host} port {port}: {error.strerror}") from error


def end_leftover(options: P2pdOptions) -> None:
    """End the p2pd that an earlier, killed process of this ``run_dir`` may have left."""
    with contextlib.suppress(OSError, ValueError):
        _kill_if_ours(int(options.pid_file.read_text()), options.identity)
    options.pid_file.unlink(missing_ok=True)


def _kill_if_ours(pid: int, identity: Path) -> None:
    # The descriptor pins the process: the pid cannot be reused between the check and the kill.
    descriptor = os.pidfd_open(pid)
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        named = any(Path(argument).name == "p2pd" for argument in arguments)
        if named and f"-id={identity}" in arguments:
            _LOG.warning("ending p2pd %d, left by an earlier process", pid)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], _STOP_SECONDS)
    finally:
        os.close(descriptor)


class P2pdProcess:
    """One running p2pd."""

    def __init__(self, process: asyncio.subprocess.Process, control: Path) -> None:
        """Use ``start`` instead."""
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=5)
        self._output = asyncio.create_task(self._drain())
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.control = control
        """The unix socket that takes requests."""

    @classmethod
    async def start(
        cls, options: P2pdOptions, port: int, sockets: Path, generation: int
    ) -> "P2pdProcess":
        """Start p2pd and return when it takes requests.

        Raises: NetworkError: SK-NET-002 if the port is in use, SK-NET-004 if p2pd fails.
        """
        check_port(options.host, port)
        control = sockets / f"d{generation}"
        command = [str(p2pd_binary()), *_arguments(options, port, control)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _WRAPPER, str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | _environment(options),
        )
        started = cls(process, control)
        with contextlib.ExitStack() as undo:
            undo.callback(started.kill)
            write_atomic(options.pid_file, str(process.pid).encode())
            await started._wait_ready()
            undo.pop_all()
        return started

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Return the exit code once the process has ended."""
        return await self._process.wait()

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """End the process, politely first, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._output

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._ready
        except TimeoutError:
            await self.stop()
            detail = f"p2pd was not ready after {_START_SECONDS:.0f} s"
            raise NetworkError("SK-NET-004", detail) from None
        if self._output.done():
            code = await self._process.wait()
            said = " | ".join(self._last_lines)
            raise NetworkError("SK-NET-004", f"p2pd ended with code {code}: {said}")

    async def _drain(self) -> None:
        """Read all output: p2pd must never wait for us, and its last words explain its end."""
        assert self._process.stdout is not None
        rest = b""
        while data := await self._process.stdout.read(2**16):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-(2**16) :]
            for line in lines:
                self._take_line(line.decode(errors="replace").strip())
        if rest:
            self._take_line(rest.decode(errors="replace").strip())
        if not self._ready.done():
            self._ready.set_result(None)

    def _take_line(self, line: str) -> None:
        _LOG.debug("p2pd %d: %s", self._process.pid, line)
        self._last_lines.append(line[:500])
        if line.startswith("Peer ID:") and not self._ready.done():
            self._ready.set_result(None)


def _environment(options: P2pdOptions) -> dict[str, str]:
    # On one core p2pd mostly starts its own relay before libp2p's, whose circuits are larger and
    # which then takes the place of the first; on several cores mostly the other way round.
    return {"GOLOG_LOG_LEVEL": "error"} | ({"GOMAXPROCS": "1"} if options.is_relay else {})


def _arguments(options: P2pdOptions, port: int, control: Path) -> list[str]:
    nat = int(options.traverses_nat)
    version = "ip6" if ":" in options.host else "ip4"
    arguments = [
        f"-id={options.identity}",
        f"-listen=/unix{control}",
        f"-hostAddrs=/{version}/{options.host}/tcp/{port}",
        "-dhtServer=1",  # so that peers of peers can be dialled by their id
        "-connManager=1",
        f"-relay={nat}",
        f"-autonat={nat}",
        f"-natPortMap={nat}",
    ]
    if nat and options.bootstrap:
        # Not -bootstrapPeers: with it p2pd would not start while they are away.
        arguments += ["-autoRelay=1", f"-trustedRelays={','.join(options.bootstrap)}"]
    if options.reachability != "auto":
        arguments.append(f"-forceReachability{options.reachability.capitalize()}=1")
    return arguments
