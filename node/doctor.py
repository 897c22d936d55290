"""What ``skerry doctor`` looks at: everything on this machine that could stop or slow a node.

Each check is a function that returns its result; none changes anything that stays.
"""

import importlib.metadata
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from skerry.node.config import NodeConfig, load_config
from skerry.node.control_client import ControlClient
from skerry.node.home import Home
from skerry.node.identity import load_identity
from skerry.protocol.errors import SkerryError

OLDEST_PYTHON = (3, 11)
FAIL_DISK_BYTES, WARN_DISK_BYTES = 200 * 10**6, 2 * 10**9
FAIL_MEMORY_BYTES, WARN_MEMORY_BYTES = 500 * 10**6, 2 * 10**9
"""Torch alone takes about 300 MB in each compute process."""
CLOCK_FROM, CLOCK_UNTIL = 1_735_689_600, 4_102_444_800
"""2025-01-01 and 2100-01-01: a clock outside has lost its battery."""
CONGESTION_FILE = Path("/proc/sys/net/ipv4/tcp_congestion_control")
MEMORY_FILE = Path("/proc/meminfo")


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One result: what was found and, unless it passed, what to do."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "detail": self.detail,
            "fix": self.fix,
        }


def examine(home: Home) -> list[Check]:
    """Run all checks for a node with this home."""
    config, config_check = _config(home)
    daemon = check_daemon(home)
    checks = [
        check_python(),
        check_torch(),
        check_p2pd(),
        config_check,
        check_key(home),
        check_home(home),
        check_disk(home),
        check_memory(),
        check_clock(time.time()),
        check_congestion(),
        daemon,
        check_reachability(home),
    ]
    if not home.in_use:  # a running daemon holds its port
        checks.append(check_port(config.listen.host, config.listen.port))
    return checks


def check_python() -> Check:
    """Check the interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", Verdict.FAIL, found, "Install Python 3.11 or newer.")
    return Check("python", Verdict.PASS, found)


def check_torch() -> Check:
    """Check that torch is installed, without the seconds that importing it takes."""
    if importlib.util.find_spec("torch") is None:
        return Check("torch", Verdict.FAIL, "not installed", "Run pip install torch.")
    return Check("torch", Verdict.PASS, importlib.metadata.version("torch"))


def check_p2pd() -> Check:
    """Check that hivemind's network daemon is there and can be executed on this machine."""
    fix = "Run pip install --force-reinstall hivemind."
    spec = importlib.util.find_spec("hivemind")
    if spec is None or spec.origin is None:
        if importlib.util.find_spec("libp2p") is not None:
            return Check("p2pd", Verdict.PASS, "not installed; py-libp2p takes its place")
        return Check("p2pd", Verdict.FAIL, "hivemind is not installed", fix)
    binary = Path(spec.origin).parent / "hivemind_cli" / "p2pd"
    if not binary.exists():
        return Check("p2pd", Verdict.FAIL, f"{binary} is missing", fix)
    try:
        ran = subprocess.run([binary, "-help"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("p2pd", Verdict.FAIL, f"{binary} does not run: {error}", fix)
    if b"-hostAddrs" not in ran.stderr + ran.stdout:
        return Check("p2pd", Verdict.FAIL, f"{binary} ended with {ran.returncode}", fix)
    return Check("p2pd", Verdict.PASS, str(binary))


def check_key(home: Home) -> Check:
    """Check the identity key, if there is one yet."""
    if not home.identity_file.exists():
        return Check("key", Verdict.PASS, "none yet; made at the first start")
    try:
        load_identity(home.identity_file)
    except SkerryError as error:
        return _failed("key", error)
    return Check("key", Verdict.PASS, f"{home.identity_file} is for its owner only")


def check_home(home: Home) -> Check:
    """Check that files can be made in the home, or the home itself where it is to be."""
    folder = _nearest_folder(home.path)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "Give yourself write permission, or choose another --home."
        return Check("home", Verdict.FAIL, f"{folder}: {error.strerror}", fix)
    state = "" if folder == home.path else ", made at the first start"
    return Check("home", Verdict.PASS, f"{home.path}{state}")


def check_disk(home: Home) -> Check:
    """Check the free space where the home is."""
    free = shutil.disk_usage(_nearest_folder(home.path)).free
    verdict = _enough(free, FAIL_DISK_BYTES, WARN_DISK_BYTES)
    fix = "" if verdict is Verdict.PASS else "Free space, or choose another --home."
    return Check("disk", verdict, f"{free / 1e9:.1f} GB free", fix)


def check_memory() -> Check:
    """Check the memory that is available now."""
    available = _available_memory()
    if available is None:
        return Check("memory", Verdict.PASS, "not known on this system")
    verdict = _enough(available, FAIL_MEMORY_BYTES, WARN_MEMORY_BYTES)
    fix = "" if verdict is Verdict.PASS else "End other programs, or train a smaller model."
    return Check("memory", verdict, f"{available / 1e9:.1f} GB available", fix)


def check_clock(now: float) -> Check:
    """Check that the wall clock is plausible: invites and records expire by it."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if CLOCK_FROM <= now < CLOCK_UNTIL:
        return Check("clock", Verdict.PASS, shown)
    return Check("clock", Verdict.FAIL, shown, "Set the clock, best by NTP.")


def check_congestion() -> Check:
    """Advise BBR: on links that lose packets, other algorithms give up most of the rate."""
    try:
        found = CONGESTION_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return Check("congestion control", Verdict.PASS, "not known on this system")
    if found.startswith("bbr"):
        return Check("congestion control", Verdict.PASS, found)
    fix = (
        "On a lossy link: sudo sysctl -w net.core.default_qdisc=fq "
        "net.ipv4.tcp_congestion_control=bbr"
    )
    return Check("congestion control", Verdict.WARN, f"{found} instead of bbr", fix)


def check_port(host: str, port: int) -> Check:
    """Check that the configured port can be bound, for TCP and for UDP (QUIC)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind, name in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                fix = "Choose another port with --port, or --port 0 for any free one."
                detail = f"{name} {host} port {port}: {error.strerror}"
                return Check("port", Verdict.FAIL, detail, fix)
    return Check("port", Verdict.PASS, f"{host} port {port}" if port else f"{host}, any free port")


def check_daemon(home: Home) -> Check:
    """Check that the daemon answers, if one runs."""
    if not home.in_use:
        return Check("daemon", Verdict.PASS, "none runs; init and join start one")
    try:
        with ControlClient(home.control_socket) as client:
            started = time.monotonic()
            pid = client.status().pid
            milliseconds = (time.monotonic() - started) * 1e3
    except SkerryError as error:
        return _failed("daemon", error)
    return Check("daemon", Verdict.PASS, f"process {pid} answered in {milliseconds:.0f} ms")


def check_reachability(home: Home) -> Check:
    """Say how others reach the daemon, as far as it has found out."""
    if not home.in_use:
        return Check("reachability", Verdict.PASS, "not known while no daemon runs")
    try:
        with ControlClient(home.control_socket) as client:
            reach = client.status().reach
    except SkerryError as error:
        return _failed("reachability", error)
    summary = reach.summary or "not known with this transport"
    verdict = Verdict.WARN if reach.advice else Verdict.PASS
    return Check("reachability", verdict, summary, reach.advice)


def _config(home: Home) -> tuple[NodeConfig, Check]:
    try:
        config = load_config(home.config_file)
    except SkerryError as error:
        return NodeConfig(), _failed("config", error)
    found = str(home.config_file) if home.config_file.exists() else "defaults; no config.toml"
    return config, Check("config", Verdict.PASS, found)


def _failed(name: str, error: SkerryError) -> Check:
    return Check(name, Verdict.FAIL, str(error), error.fix)


def _enough(found: int, fail_below: int, warn_below: int) -> Verdict:
    if found < fail_below:
        return Verdict.FAIL
    return Verdict.WARN if found < warn_below else Verdict.PASS


def _nearest_folder(path: Path) -> Path:
    """Return ``path``, or what exists above it."""
    return next(p for p in (path, *path.parents) if p.is_dir())


def _available_memory() -> int | None:
    """Return bytes that can be used without swapping; None where /proc does not say."""
    for name, number in _memory_lines():
        if name == "MemAvailable":
            return number * 1024
    return None


def _memory_lines() -> Iterator[tuple[str, int]]:
    try:
        lines = MEMORY_FILE.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        name, _, value = line.partition(":")
        yield name, int(value.split()[0])
