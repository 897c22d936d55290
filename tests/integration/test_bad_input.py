"""What a user or a machine may get wrong: one coded line with its fix, and nothing half-written.

The commands are the installed ones, in processes of their own, against real daemons.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import small_disk
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from swarm import Peer, Swarm
from tiny_run import tiny_run_file

from skerry.node.home import Home
from skerry.node.identity import load_identity
from skerry.node.net.p2pd import P2pdOptions, P2pdTransport
from skerry.node.net.rpc import RpcServer
from skerry.node.net.rpc_errors import refuse
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.codec import envelope_to_pb
from skerry.protocol.errors import FAMILIES, ProtocolError
from skerry.protocol.ids import RunId
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import PROTOCOL_VERSION, Kind
from skerry.protocol.signing import Signer
from skerry.protocol.token import JoinToken, encode_token, make_invite

pytestmark = pytest.mark.integration

PATIENCE_S = 400.0
"""For one command, on a machine that is busy with other things."""
EXIT_CODES = {name: error.exit_code for name, error in FAMILIES.items()}


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def is_refused_with(self, code: str, *words: str) -> None:
        """Assert one line with the error, one with the fix, and the documented exit code."""
        lines = self.err.splitlines()
        assert len(lines) == 2, self
        assert lines[0].startswith(f"error {code}: "), self
        assert lines[1].startswith("fix: "), self
        assert self.out == "", self
        assert self.code == EXIT_CODES[code.split("-")[1]], self
        assert len(lines[0]) < 600, self
        for word in words:
            assert word in lines[0], self


def skerry(*arguments: object, home: Path | None = None) -> Result:
    """Run a command to its end."""
    command = [sys.executable, "-P", "-m", "skerry.node.cli.main", *map(str, arguments)]
    command += [f"--home={home}"] if home is not None else []
    env = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, env=env, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


def written_by_runs(home: Path) -> list[str]:
    """Return what there is of runs in a home."""
    left = [path for path in (home / "runs").rglob("*")] if (home / "runs").exists() else []
    left += [path for path in [home / "current"] if path.exists()]
    return sorted(str(path.relative_to(home)) for path in left)


@pytest.fixture(scope="module")
def busy(swarm: Swarm) -> Peer:
    """A daemon alone in an endless run of its own."""
    peers = swarm.start("busy", "free")
    swarm.begin(peers[:1], rounds=0, deadline_min="2s")
    return peers[0]


@pytest.fixture(scope="module")
def free_peer(swarm: Swarm, busy: Peer) -> Peer:
    return swarm.peers[1]


@pytest.fixture
def free(free_peer: Peer) -> Iterator[Path]:
    """The home of a daemon in no run; afterwards it is in none still, and nothing was written."""
    yield free_peer.home.path
    status = free_peer.status()
    assert not status.HasField("run")
    assert status.compute == "none"
    assert not free_peer.children.get("compute")
    assert written_by_runs(free_peer.home.path) == []


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A home that does not exist; afterwards no daemon runs in it."""
    home = tmp_path / "home"
    yield home
    assert not Home(home).in_use


def run_file(folder: Path, text: Path) -> Path:
    path = folder / "run.toml"
    path.write_text(tiny_run_file(text, grace="1s"))
    return path


class Owner:
    """Who owns a run, and so may make tokens for it."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        self.key = key or Ed25519PrivateKey.generate()
        self.signer = Signer(self.key)

    def token(self, address: str, run_id: str = "ab" * 32, expires_in: float = 3600.0) -> str:
        name, expires_at = RunId(run_id), int(time.time() + expires_in)
        invite = make_invite(self.signer, name, expires_at, b"n" * 16)
        bootstrap = f"{address}/p2p/{self.signer.peer_id}"
        return encode_token(JoinToken((bootstrap,), name, self.signer.peer_id, invite))


NOWHERE = "/ip4/127.0.0.1/tcp/9"


class TestTokens:
    """Refused before anything is started or asked."""

    @pytest.mark.parametrize(
        ("token", "code"),
        [
            ("hello", "SK-TOK-001"),
            (Owner().token(NOWHERE)[:-9], "SK-TOK-001"),
            (Owner().token(NOWHERE)[:70] + "AAAA" + Owner().token(NOWHERE)[74:], "SK-TOK-002"),
            (Owner().token(NOWHERE, expires_in=-9), "SK-TOK-003"),
        ],
        ids=["nonsense", "cut short", "changed", "expired"],
    )
    def test_bad_token(self, fresh, token, code) -> None:
        skerry("join", token, home=fresh).is_refused_with(code)
        assert not fresh.exists()


class TestJoining:
    def test_bootstrap_peer_that_is_not_there(self, free) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}"
            owner = Owner()
            result = skerry("join", owner.token(address), home=free)
        result.is_refused_with("SK-NET-001", owner.signer.peer_id)

    def test_bootstrap_peer_that_never_answers(self, free) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"
            skerry("join", Owner().token(address), home=free).is_refused_with("SK-NET-001")

    def test_peer_of_another_name_at_the_address(self, free, busy) -> None:
        address = busy.status().addresses[0]
        skerry("join", Owner().token(address), home=free).is_refused_with("SK-NET-001")

    def test_run_that_the_peer_is_not_in(self, free, busy) -> None:
        owner = Owner(load_identity(busy.home.identity_file))
        token = owner.token(busy.status().addresses[0], run_id="cd" * 32)
        skerry("join", token, home=free).is_refused_with("SK-PRO-002", "cdcdcdcd")

    async def test_peer_that_speaks_another_version(self, free, tmp_path) -> None:
        error = ProtocolError("version", "protocol 2, this peer speaks 1", "SK-PRO-001")
        async with bootstrap(tmp_path, lambda owner: error) as token:
            (await joined(token, free)).is_refused_with("SK-PRO-001")

    async def test_peer_that_answers_in_another_version(self, free, tmp_path) -> None:
        def reply(owner: Owner) -> pb.HelloReply:
            return replace_reply(manifest_of(owner), protocol=PROTOCOL_VERSION + 1)

        async with bootstrap(tmp_path, reply) as token:
            (await joined(token, free)).is_refused_with("SK-PRO-001")

    @pytest.mark.parametrize("kind", ["body", "signer", "other", "empty", "kind"])
    async def test_tampered_manifest(self, free, tmp_path, kind) -> None:
        def reply(owner: Owner) -> pb.HelloReply:
            honest = manifest_of(owner)
            manifest = honest.manifest
            thief = Owner()
            if kind == "body":
                manifest.body = manifest.body.replace(b'"rounds":0', b'"rounds":9')
            elif kind == "signer":
                manifest.CopyFrom(envelope_to_pb(thief.signer.sign(Kind.MANIFEST, manifest.body)))
            elif kind == "other":
                manifest.CopyFrom(manifest_of(owner, 'name = "other"').manifest)
            elif kind == "empty":
                manifest.CopyFrom(envelope_to_pb(owner.signer.sign(Kind.MANIFEST, b"")))
            else:
                manifest.kind = Kind.MEMBER
            return honest

        async with bootstrap(tmp_path, reply) as token:
            (await joined(token, free)).is_refused_with("SK-MAN-001")

    def test_own_run(self, free, free_peer) -> None:
        owner = Owner(load_identity(free_peer.home.identity_file))
        skerry("join", owner.token(NOWHERE), home=free).is_refused_with("SK-CFG-002", "owns")


def manifest_of(owner: Owner, toml: str = "") -> pb.HelloReply:
    """Return what an honest owner answers to a hello."""
    manifest = parse_run_file(toml, owner.signer.peer_id)
    envelope = envelope_to_pb(owner.signer.sign(Kind.MANIFEST, manifest.canonical()))
    return pb.HelloReply(protocol=PROTOCOL_VERSION, manifest=envelope)


def replace_reply(reply: pb.HelloReply, protocol: int) -> pb.HelloReply:
    reply.protocol = protocol
    return reply


@asynccontextmanager
async def bootstrap(folder: Path, answer: Any) -> AsyncIterator[str]:
    """Run the owner of the empty run file as a peer; it answers hello with ``answer(owner)``."""
    owner = Owner()

    class Servicer(PeerServicer):
        async def Hello(self, request: pb.HelloRequest, grpc: Any) -> pb.HelloReply:
            reply = answer(owner)
            if isinstance(reply, ProtocolError):
                await refuse(grpc, reply)
            return reply

    transport = await P2pdTransport.create(P2pdOptions(run_dir=folder), owner.key)
    server = RpcServer(transport, lambda peer: Servicer())
    try:
        await server.start()
        run_id = parse_run_file("", owner.signer.peer_id).run_id
        yield owner.token(transport.addresses[0], run_id)
    finally:
        await server.close()
        await transport.close()


async def joined(token: str, home: Path) -> Result:
    return await asyncio.to_thread(skerry, "join", token, home=home)


class TestRunFiles:
    """Mistakes in a run file need no daemon to be found."""

    @pytest.mark.parametrize(
        ("text", "code", "word"),
        [
            ("rounds = = 3", "SK-CFG-003", "run.toml"),
            ("[model]\nlayer = 3", "SK-CFG-001", "did you mean 'layers'?"),
            ("[model]\nlayers = 0", "SK-CFG-002", "model.layers"),
            ('[data]\nsource = "text"\npath = "books"', "SK-CFG-002", "must begin with / or ~/"),
        ],
        ids=["not TOML", "unknown key", "out of range", "relative path"],
    )
    def test_bad_run_file(self, fresh, tmp_path, text, code, word) -> None:
        path = tmp_path / "run.toml"
        path.write_text(text)
        skerry("init", path, home=fresh).is_refused_with(code, word)
        assert not fresh.exists()

    def test_empty_corpus(self, free, tmp_path) -> None:
        (tmp_path / "empty.txt").touch()
        file = run_file(tmp_path, tmp_path / "empty.txt")
        skerry("init", file, home=free).is_refused_with("SK-DAT-001", "empty.txt")

    def test_model_too_large_for_memory(self, free, tmp_path, swarm) -> None:
        file = run_file(tmp_path, swarm.text)
        large = "layers = 512\nd_model = 65536\n"
        file.write_text(file.read_text().replace("layers = 1\nd_model = 32\n", large))
        skerry("init", file, home=free).is_refused_with("SK-MEM-001", "GiB")

    def test_daemon_started_for_a_run_that_fails_is_ended(self, fresh, tmp_path) -> None:
        (tmp_path / "empty.txt").touch()
        file = run_file(tmp_path, tmp_path / "empty.txt")
        flags = ("--host=127.0.0.1", "--threads=1")
        skerry("init", file, *flags, home=fresh).is_refused_with("SK-DAT-001")
        assert written_by_runs(fresh) == []


class TestSecondOnes:
    def test_second_daemon_on_the_same_home(self, busy) -> None:
        pid = str(busy.daemon.process.pid)
        skerry("daemon", home=busy.home.path).is_refused_with("SK-DMN-002", pid)
        skerry("daemon", "--detach", home=busy.home.path).is_refused_with("SK-DMN-002", pid)

    def test_second_run_on_the_same_daemon(self, busy, swarm, tmp_path) -> None:
        before = written_by_runs(busy.home.path)[:1], busy.status().run.run_id
        file = run_file(tmp_path, swarm.text)
        skerry("init", file, home=busy.home.path).is_refused_with("SK-DMN-003", "faults")
        token = Owner().token(NOWHERE)
        skerry("join", token, home=busy.home.path).is_refused_with("SK-DMN-003")
        assert (written_by_runs(busy.home.path)[:1], busy.status().run.run_id) == before
        run = busy.status().run
        busy.wait_until(lambda now: now.digest_round > run.digest_round, "in a later round")


class TestExport:
    def test_into_a_folder_that_holds_something_else(self, busy, tmp_path) -> None:
        (tmp_path / "thesis.txt").write_text("all of it")
        result = skerry("export", tmp_path, home=busy.home.path)
        result.is_refused_with("SK-DSK-004", str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_to_where_nothing_can_be_made(self, busy, tmp_path) -> None:
        (tmp_path / "file").touch()
        result = skerry("export", tmp_path / "file" / "model", home=busy.home.path)
        assert result.code in (6, 7), result
        assert len(result.err.splitlines()) == 2, result
        busy.wait_until(lambda run: run.round.phase != "", "usable")

    def test_without_a_run(self, free, tmp_path) -> None:
        skerry("export", tmp_path / "model", home=free).is_refused_with("SK-DMN-004")
        assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "arguments", [["status"], ["peers"], ["logs"], ["leave"], ["stop"], ["export", "/tmp/x"]]
)
def test_command_without_a_daemon(fresh, arguments) -> None:
    skerry(*arguments, home=fresh).is_refused_with("SK-DMN-001")
    assert not fresh.exists()


class TestStart:
    """The daemon does not start, and says why."""

    def test_port_in_use(self, fresh) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = skerry("daemon", "--host=127.0.0.1", f"--port={port}", home=fresh)
        result.is_refused_with("SK-NET-002", str(port))

    def test_key_that_is_no_key(self, fresh) -> None:
        key = self._key(fresh, "-----BEGIN PRIVATE KEY-----\nnonsense\n")
        skerry("daemon", home=fresh).is_refused_with("SK-KEY-001", str(key))

    def test_key_that_others_can_read(self, fresh) -> None:
        key = self._key(fresh, "")
        key.chmod(0o644)
        skerry("daemon", home=fresh).is_refused_with("SK-KEY-002", "0644")

    def test_unknown_setting(self, fresh) -> None:
        fresh.mkdir()
        (fresh / "config.toml").write_text("[listen]\nprot = 4001\n")
        skerry("daemon", home=fresh).is_refused_with("SK-CFG-001", "did you mean 'port'?")

    def test_home_that_is_a_file(self, tmp_path) -> None:
        (tmp_path / "home").touch()
        skerry("daemon", home=tmp_path / "home").is_refused_with("SK-DSK-003")

    @pytest.mark.parametrize("name", ["p2pd", "events.jsonl", "control.sock"])
    def test_something_else_lies_where_a_file_of_ours_belongs(self, fresh, name) -> None:
        fresh.mkdir()
        if name == "p2pd":
            (fresh / name).touch()
        else:
            (fresh / name).mkdir()
        result = skerry("daemon", "--host=127.0.0.1", home=fresh)
        result.is_refused_with("SK-DSK-003", name)

    def _key(self, home: Path, text: str) -> Path:
        home.mkdir()
        key = home / "identity.pem"
        key.write_text(text)
        key.chmod(0o600)
        return key


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB. Making one is root's."""
    folder = tmp_path / "disk"
    if missing := small_disk.mount(folder, "2m"):
        pytest.skip(f"no small disk can be mounted here: {missing}")
    yield folder
    small_disk.unmount(folder)


class TestFullDisk:
    def test_daemon_does_not_start(self, disk) -> None:
        small_disk.fill(disk / "ballast")
        home = disk / "home"
        skerry("daemon", "--host=127.0.0.1", home=home).is_refused_with("SK-DSK-001")
        skerry("daemon", "--detach", home=home).is_refused_with("SK-DSK-001")
        skerry("keys", home=home).is_refused_with("SK-DSK-001")

    @pytest.mark.chaos
    def test_run_is_not_begun_and_can_be_when_there_is_space(self, disk, swarm, tmp_path) -> None:
        home, file = disk / "home", run_file(tmp_path, swarm.text)
        started = skerry("daemon", "--detach", "--host=127.0.0.1", "--threads=1", home=home)
        assert started.code == 0, started
        try:
            small_disk.fill(disk / "ballast")
            skerry("init", file, home=home).is_refused_with("SK-DSK-001")
            assert written_by_runs(home) == []
            (disk / "ballast").unlink()
            begun = skerry("init", file, home=home)
            assert begun.code == 0, begun
            assert "token" in begun.out
        finally:
            skerry("stop", home=home)
        assert not Home(home).in_use
