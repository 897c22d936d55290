"""The p2pd transport over loopback: the common suite, supervision, and what it leaves behind."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import p2pd_swarm
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from p2pd_swarm import start
from transport_conformance import (
    ECHO,
    HOLD,
    Pair,
    TransportConformance,
    echo,
    ended,
    exchange,
)

from skerry.node.net.p2pd import P2pdOptions
from skerry.node.net.p2pd_client import P2pdClient
from skerry.node.net.p2pd_process import end_leftover
from skerry.protocol.errors import NetworkError, PeerUnavailable
from skerry.protocol.signing import peer_id_of

pair = p2pd_swarm.pair


class MortalPeer:
    """A peer whose p2pd is killed, and started again by its supervisor."""

    def __init__(self, transport) -> None:
        self._transport, self._back = transport, asyncio.Event()
        self.peer_id, self.addresses = transport.peer_id, transport.addresses

        async def hook() -> None:
            self._back.set()

        transport.add_restart_hook(hook)

    async def kill(self) -> None:
        os.kill(self._transport.daemon.pid, signal.SIGKILL)

    async def revive(self) -> None:
        await self._back.wait()


@pytest.fixture
async def mortal(pair: Pair):
    left, right = pair
    await right.handle(ECHO, echo)
    return left, MortalPeer(right)


class TestP2pdTransport(TransportConformance):
    LARGE_BYTES = 2**23


async def test_identity_is_ours_and_private_and_nothing_is_left(tmp_path):
    key = Ed25519PrivateKey.generate()
    transport = await start(tmp_path, key)
    assert transport.peer_id == peer_id_of(key.public_key().public_bytes_raw())
    assert (tmp_path / "p2pd.key").stat().st_mode & 0o777 == 0o600
    process = psutil.Process(transport.daemon.pid)
    folder = Path(next(a for a in process.cmdline() if a.startswith("-listen=/unix"))[13:]).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    await transport.close()
    assert not process.is_running()
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


async def test_killed_p2pd_is_replaced_with_same_identity_port_and_handlers(pair: Pair):
    left, right = pair
    back, told = asyncio.Event(), []

    async def hook() -> None:
        told.append("back")
        back.set()

    right.add_outage_hook(lambda: told.append("down"))
    right.add_restart_hook(hook)
    await right.handle(ECHO, echo)
    addresses, pid, p2p = right.addresses, right.daemon.pid, right.daemon.p2p
    near = await left.open_stream(right.peer_id, ECHO)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(ended(near))
        os.kill(pid, signal.SIGKILL)
        await back.wait()
    assert reading.result()
    assert told == ["down", "back"]
    await near.close()
    assert right.addresses == addresses
    assert right.daemon.pid != pid
    assert (left.restarts, right.restarts) == (0, 1)
    assert right.daemon.p2p is not p2p
    await right.connect(left.peer_id, left.addresses)
    again = await left.open_stream(right.peer_id, ECHO)
    assert await exchange(again, b"back") == b"back"
    await again.close()


async def test_links_are_direct_unless_every_connection_is_relayed(pair: Pair, monkeypatch):
    left, right = pair
    assert await left.relayed() == {right.peer_id: False}
    far, near = "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWr/p2p-circuit", "/ip4/192.0.2.2/tcp/1"

    async def connections(self):
        return (("a", far), ("b", far), ("b", near), ("c", near), ("c", far))

    monkeypatch.setattr(P2pdClient, "connections", connections)
    assert await left.relayed() == {"a": True, "b": False, "c": False}


async def test_own_p2pd_killed_ends_own_reads_and_refuses_until_it_is_back(pair: Pair):
    left, right = pair
    await right.handle(ECHO, echo)
    await right.handle(HOLD, echo)
    stream = await left.open_stream(right.peer_id, ECHO)
    back = asyncio.Event()

    async def hook() -> None:
        back.set()

    left.add_restart_hook(hook)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(ended(stream))
        os.kill(left.daemon.pid, signal.SIGKILL)
        await reading
        with pytest.raises(PeerUnavailable):
            await left.open_stream(right.peer_id, ECHO)
        await left.handle(ECHO, echo)  # kept, and registered by the restart
        await back.wait()
    with pytest.raises(PeerUnavailable):
        await stream.write(b"x")
    await stream.close()
    await left.connect(right.peer_id, right.addresses)
    for opener, other in ((left, right), (right, left)):
        again = await opener.open_stream(other.peer_id, ECHO)
        assert await exchange(again, b"back") == b"back"
        await again.close()


async def test_failing_restart_hook_does_not_stop_supervision(tmp_path):
    transport = await start(tmp_path)
    calls = asyncio.Queue()

    async def hook() -> None:
        calls.put_nowait(transport.daemon.pid)
        raise PeerUnavailable("SK-NET-003", "on purpose")

    transport.add_restart_hook(hook)
    for _ in range(2):
        os.kill(transport.daemon.pid, signal.SIGKILL)
        assert await calls.get() == transport.daemon.pid
    assert calls.empty()
    await transport.close()


async def test_hung_p2pd_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("skerry.node.net.p2pd_supervisor._REFRESH_SECONDS", 0.1)
    transport = await start(tmp_path)
    monkeypatch.setattr("skerry.node.net.p2pd_supervisor._HUNG_SECONDS", 2.0)
    back = asyncio.Event()

    async def hook() -> None:
        back.set()

    transport.add_restart_hook(hook)
    hung = transport.daemon.pid
    os.kill(hung, signal.SIGSTOP)
    await back.wait()
    assert transport.daemon.pid != hung
    await transport.close()


async def test_port_in_use_is_named_and_nothing_is_left(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match=str(port)) as caught:
            await start(tmp_path, port=port)
    assert caught.value.code == "SK-NET-002"
    assert list(tmp_path.iterdir()) == []


async def test_port_of_another_p2pd_is_in_use(tmp_path):
    first = await start(tmp_path / "first")
    port = int(first.addresses[0].rsplit("/", 1)[1])
    with pytest.raises(NetworkError) as caught:
        await start(tmp_path / "second", port=port)
    assert caught.value.code == "SK-NET-002"
    await first.close()


@pytest.mark.parametrize("script", ["exit 3", "echo no luck >&2; exit 3"])
async def test_p2pd_that_fails_is_reported_with_its_words(tmp_path, monkeypatch, script):
    binary = tmp_path / "p2pd"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o700)
    monkeypatch.setattr("skerry.node.net.p2pd_process.p2pd_binary", lambda: binary)
    with pytest.raises(NetworkError, match="code 3") as caught:
        await start(tmp_path / "run")
    assert caught.value.code == "SK-NET-004"
    assert ("no luck" in str(caught.value)) == ("luck" in script)
    assert list((tmp_path / "run").iterdir()) == []


async def test_missing_binary_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("hivemind.hivemind_cli.__file__", str(tmp_path / "nowhere" / "x.py"))
    with pytest.raises(NetworkError) as caught:
        await start(tmp_path)
    assert caught.value.code == "SK-NET-004"


async def test_garbage_on_the_listening_port_is_survived(pair: Pair):
    left, right = pair
    await right.handle(ECHO, echo)
    _, _, host, _, port = right.addresses[0].split("/")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(os.urandom(4096))
    await writer.drain()
    while True:
        try:
            if not await reader.read(2**16):
                break
        except ConnectionError:
            break
    writer.close()
    stream = await left.open_stream(right.peer_id, ECHO)
    assert await exchange(stream, b"fine") == b"fine"
    await stream.close()


async def test_garbage_on_the_inbound_socket_is_refused(tmp_path, caplog):
    transport = await start(tmp_path)
    for data in (b"", b"\x05ab", b"\x03\x00\x00\x00", b"\xff" * 12):
        reader, writer = await asyncio.open_unix_connection(str(transport._listener))
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    await transport.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_refused_requests_leave_no_descriptor_open(pair: Pair):
    left, right = pair
    before = psutil.Process().num_fds()
    for _ in range(20):
        with pytest.raises(PeerUnavailable):
            await left.open_stream(right.peer_id, "/skerry/nobody-serves-this/1")
    assert psutil.Process().num_fds() <= before + 2


async def test_client_without_p2pd_is_unavailable(tmp_path):
    with pytest.raises(PeerUnavailable):
        await P2pdClient(tmp_path / "nothing").identify()


LONELY = """
import asyncio, os, signal, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from skerry.node.net.p2pd import P2pdOptions, P2pdTransport

async def main():
    options = P2pdOptions(run_dir=Path(sys.argv[1]))
    transport = await P2pdTransport.create(options, Ed25519PrivateKey.generate())
    print(transport.daemon.pid, transport.addresses[0].rsplit("/", 1)[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_p2pd_dies_with_a_killed_owner_and_the_port_is_free(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", LONELY, str(tmp_path)]
    owner = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    pid, port = map(int, (await owner.stdout.readline()).split())
    child = psutil.Process(pid)
    assert child.ppid() == owner.pid
    owner.kill()
    await owner.wait()
    # It was the dead owner's child: it can be gone, or wait for its new parent to notice.
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    again = await start(tmp_path, port=port)
    assert again.addresses == (f"/ip4/127.0.0.1/tcp/{port}",)
    await again.close()


async def test_leftover_p2pd_of_this_folder_is_ended_and_others_are_not(tmp_path):
    transport = await start(tmp_path / "mine")
    other = await start(tmp_path / "other")
    # As after a crash of this process alone: the pid file is there and p2pd still runs.
    pid_file = (tmp_path / "mine" / "p2pd.pid").read_text()
    back = asyncio.Event()

    async def hook() -> None:
        back.set()

    transport.add_restart_hook(hook)
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "p2pd.pid").write_text(pid_file)  # not its own: left alone
    third = await start(tmp_path / "third")
    pids = [each.daemon.pid for each in (transport, other, third)]
    assert pids[0] == int(pid_file)
    (tmp_path / "mine" / "p2pd.pid").write_text(pid_file)
    end_leftover(P2pdOptions(run_dir=tmp_path / "mine"))
    await back.wait()
    kept = [
        each.daemon.pid == pid for each, pid in zip((transport, other, third), pids, strict=True)
    ]
    assert kept == [False, True, True]
    for each in (transport, other, third):
        await each.close()


@pytest.mark.parametrize("content", ["", "garbage", "-1", "0", "99999999", "1"])
async def test_strange_pid_files_are_ignored(tmp_path, content):
    options = P2pdOptions(run_dir=tmp_path)
    options.pid_file.write_text(content)
    end_leftover(options)
    assert not options.pid_file.exists()


async def test_works_under_uvloop(tmp_path):
    code = LONELY.replace("asyncio.run", "import uvloop; uvloop.run").replace(
        "await asyncio.Event().wait()", "await transport.close()"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", code, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert (process.returncode, complained) == (0, b"")
    assert said.split()
    assert list(tmp_path.iterdir()) == []
