"""Machines behind home routers, and one on the open internet, as network namespaces.

``open`` is on the internet itself; every other machine is alone behind a router of its own, which
translates addresses and lets nothing in that was not asked for:

- "cone": the outer port is the inner one, whomever it talks to (endpoint-independent mapping,
  port-restricted filter, RFC 4787): what most home routers do.
- "sym": another, random outer port for every connection (symmetric).
- "upnp": as "cone", and a machine may have a port mapped by UPnP or NAT-PMP (a real miniupnpd).

The internet is a bridge with addresses that look public, which exist in these namespaces alone.
Besides, or instead, there may be a local network of some machines without any router.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import janitor

_PREFIX = "skerrynat"
_TOOLS = ("ip", "iptables")
PORT_TOOLS = ("miniupnpd", "nft")
_PORT_CHAINS = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward { type filter hook forward priority -10; jump miniupnpd; }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }
}
"""
_PORT_SETTINGS = """
ext_ifname=wan
listening_ip=lan
enable_natpmp=yes
enable_upnp=yes
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class NatLab:
    """The network. Use as a context: leaving it leaves no namespace, and nothing that runs in one.

    Its end is the work of a process of its own, which also notices if this one is killed.
    """

    def __init__(self, homes: dict[str, str], together: Sequence[str] = ()) -> None:
        """Plan machines.

        Args:
            homes: name → kind of the router that it is behind.
            together: names of machines in one local network, without a way out.
        """
        self._homes, self._together = homes, together
        self._mine = f"{_PREFIX}{os.getpid()}x{janitor.born(os.getpid())}-"
        self._ports = 0
        self._mappers: list[subprocess.Popen[bytes]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="skerry-natlab-")
        self._janitor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Build all of it; what cannot be completed is removed again."""
        remove_abandoned()
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", janitor.__file__, self._mine],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the test
        )
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the namespaces, and with them all links, rules and processes."""
        process, self._janitor = self._janitor, None
        if process is not None:
            process.communicate()
            assert process.returncode == 0, "the janitor has said why it failed"
        for mapper in self._mappers:
            mapper.wait()  # it was ended with its namespace
        self._mappers.clear()
        self._folder.cleanup()

    def inside(self, name: str) -> list[str]:
        """Return what to put before a command for it to run on a machine."""
        return ["ip", "netns", "exec", self._mine + name]

    def move(self, name: str, old: int, new: int) -> None:
        """Give a machine of the local network another address, as its router may at any time."""
        for verb, last in (("del", old), ("add", new)):
            self._on(name, "ip", "addr", verb, f"{lan_address(last)}/24", "dev", "eth0")

    def _build(self) -> None:
        if self._homes:
            self._build_internet()
        if self._together:
            self._bridge("switch")
        for number, name in enumerate(self._together, start=1):
            self._add(name)
            self._plug("switch", name, "eth0", f"{lan_address(number)}/24")

    def _build_internet(self) -> None:
        self._bridge("wan")
        self._add("open")
        self._plug("wan", "open", "wan", "51.10.0.1/16")
        for number, (name, kind) in enumerate(self._homes.items(), start=1):
            self._add(name)
            self._add(f"{name}-router")
            self._plug("wan", f"{name}-router", "wan", f"51.10.{number}.1/16")
            self._connect(name, number)
            self._translate(f"{name}-router", kind)
            if kind == "upnp":
                self._map_ports(f"{name}-router")

    def _add(self, name: str) -> None:
        _run("ip", "netns", "add", self._mine + name)
        self._on(name, "ip", "link", "set", "lo", "up")

    def _bridge(self, name: str) -> None:
        self._add(name)
        self._on(name, "ip", "link", "add", "br0", "type", "bridge")
        self._on(name, "ip", "link", "set", "br0", "up")

    def _plug(self, bridge: str, name: str, device: str, address: str) -> None:
        """Join a machine to a bridge."""
        self._ports += 1
        port = f"p{self._ports}"
        peer = ("peer", "name", device, "netns", self._mine + name)
        self._on(bridge, "ip", "link", "add", port, "type", "veth", *peer)
        self._on(bridge, "ip", "link", "set", port, "master", "br0", "up")
        self._on(name, "ip", "addr", "add", address, "dev", device)
        self._on(name, "ip", "link", "set", device, "up")

    def _connect(self, name: str, number: int) -> None:
        """Join a machine to its router."""
        router = f"{name}-router"
        peer = ("peer", "name", "eth0", "netns", self._mine + name)
        self._on(router, "ip", "link", "add", "lan", "type", "veth", *peer)
        for where, device, last in ((router, "lan", 1), (name, "eth0", 2)):
            address = f"192.168.{number}.{last}/24"
            self._on(where, "ip", "addr", "add", address, "dev", device)
            self._on(where, "ip", "link", "set", device, "up")
        self._on(name, "ip", "route", "add", "default", "via", f"192.168.{number}.1")

    def _translate(self, router: str, kind: str) -> None:
        self._on(router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        random = ["--random-fully"] if kind == "sym" else []
        self._on(router, *masquerade("wan", *random))
        answers = ("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
        for chain in ("FORWARD", "INPUT"):
            self._on(router, "iptables", "-A", chain, "-i", "wan", *answers)
            self._on(router, "iptables", "-A", chain, "-i", "wan", "-j", "DROP")

    def _map_ports(self, router: str) -> None:
        """Have the router map a port for whoever asks from inside."""
        inside, folder = self.inside(router), Path(self._folder.name)
        _run(*inside, "nft", _PORT_CHAINS)
        dnat = ("-m", "conntrack", "--ctstate", "DNAT", "-j", "ACCEPT")
        self._on(router, "iptables", "-I", "FORWARD", "-i", "wan", *dnat)
        settings = folder / f"{router}.conf"
        settings.write_text(_PORT_SETTINGS)
        with (folder / f"{router}.log").open("wb") as log:
            command = ("miniupnpd", "-d", "-f", str(settings), "-P", str(folder / f"{router}.pid"))
            self._mappers.append(
                subprocess.Popen([*inside, *command], stdout=log, stderr=subprocess.STDOUT)
            )

    def _on(self, name: str, *command: str) -> None:
        _run(*self.inside(name), *command)


def lan_address(last: int) -> str:
    """Return an address in the local network; machines there are numbered from 1."""
    return f"192.168.99.{last}"


def masquerade(device: str, *options: str) -> tuple[str, ...]:
    """Return the command that hides what leaves by ``device``."""
    table = ("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", device)
    return (*table, "-j", "MASQUERADE", *options)


def why_not() -> str:
    """Return why such a network cannot be built here; empty if it can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        with NatLab({"trial": "sym"}):
            return ""
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        return f"{' '.join(error.cmd[-8:])}: {said}"


def remove_abandoned() -> None:
    """Remove what a process left that was killed together with its janitor."""
    for path in janitor.NAMESPACES.glob(f"{_PREFIX}*x*-*"):
        lab = path.name.partition("-")[0]
        owner, _, birth = lab.removeprefix(_PREFIX).partition("x")
        if owner.isdigit() and janitor.born(int(owner)) != birth:
            janitor.remove(f"{lab}-")


def _run(*command: str) -> None:
    """Raises: subprocess.CalledProcessError, which says what was answered."""
    subprocess.run(command, check=True, capture_output=True, timeout=60)
