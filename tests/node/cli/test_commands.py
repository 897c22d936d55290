"""Every command against a pretended daemon: what it asks, and what it prints."""

import json
import subprocess
import sys
import types
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from shutil import which

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from skerry.node import demo
from skerry.node.cli.main import app
from skerry.node.page.pass_key import load_or_create
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError, DaemonError, TokenError
from skerry.protocol.ids import RunId
from skerry.protocol.signing import Signer
from skerry.protocol.token import JoinToken, encode_token, make_invite

RUN_ID = RunId("ab" * 32)


def token_until(expires_at: int | None) -> str:
    signer = Signer(Ed25519PrivateKey.generate())
    invite = None if expires_at is None else make_invite(signer, RUN_ID, expires_at, b"n" * 16)
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{signer.peer_id}"
    return encode_token(JoinToken((address,), RUN_ID, signer.peer_id, invite))


class TestInit:
    def test_prints_run_token_and_the_line_to_copy(self, invoke, control, tmp_path) -> None:
        (tmp_path / "run.toml").write_text('name = "first"')
        out = invoke("init", str(tmp_path / "run.toml"))
        assert out.splitlines() == [
            f"run id       {RUN_ID}",
            "name         first",
            "token        skerry1TOKEN",
            "others type  skerry join skerry1TOKEN",
        ]
        assert pb.InitRequest(manifest_toml='name = "first"') in control.asked

    def test_goes_on_with_a_kept_run(self, invoke, control) -> None:
        assert f"run id       {RUN_ID}" in invoke("init", "--resume")
        assert pb.InitRequest(resume="") in control.asked
        invoke("init", "--resume", "first")
        assert pb.InitRequest(resume="first") in control.asked

    def test_without_a_file_starts_no_daemon(self, invoke, home) -> None:
        with pytest.raises(ConfigError, match=r"SK-CFG-002: name a run file, or --resume"):
            invoke("init")
        assert not home.path.exists()

    def test_as_json(self, invoke, control, tmp_path) -> None:
        (tmp_path / "run.toml").write_text("")
        found = json.loads(invoke("init", str(tmp_path / "run.toml"), "--format", "json"))
        assert found["token"] == "skerry1TOKEN"
        assert found["run_id"] == RUN_ID

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("nam = 1", "SK-CFG-001"),
            ("rounds = -1", "SK-CFG-002"),
            ("= 1", "SK-CFG-003"),
            ("#" * 70_000, "SK-CFG-002"),
        ],
    )
    def test_wrong_file_starts_no_daemon(self, invoke, home, tmp_path, text, code) -> None:
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(ConfigError, match=f"{code}: .*run.toml"):
            invoke("init", str(tmp_path / "run.toml"))
        assert not home.path.exists()

    @pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
    def test_unreadable_file_starts_no_daemon(self, invoke, home, tmp_path, kind) -> None:
        path = {"missing": tmp_path / "x.toml", "folder": tmp_path}.get(kind, tmp_path / "b.toml")
        if kind == "binary":
            path.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match="SK-CFG-003"):
            invoke("init", str(path))
        assert not home.path.exists()

    def test_refusal_of_the_daemon_is_passed_on(self, invoke, control, tmp_path) -> None:
        (tmp_path / "run.toml").write_text("")
        control.refuses = pb.InitRequest
        control.refusal = (grpc.StatusCode.FAILED_PRECONDITION, "SK-DMN-003: in run x")
        with pytest.raises(DaemonError, match="SK-DMN-003"):
            invoke("init", str(tmp_path / "run.toml"))


class TestJoin:
    def test_asks_the_daemon_with_the_token(self, invoke, control) -> None:
        token = token_until(2**33)
        assert invoke("join", token).splitlines()[0] == f"run id  {RUN_ID}"
        assert pb.JoinRequest(token=token) in control.asked

    @pytest.mark.parametrize(
        ("token", "code"),
        [
            ("nonsense", "SK-TOK-001"),
            (token_until(2**33)[:-9], "SK-TOK-001"),
            (token_until(1), "SK-TOK-003"),
        ],
        ids=["nonsense", "cut short", "expired"],
    )
    def test_bad_token_is_refused_before_anything_starts(self, invoke, home, token, code) -> None:
        with pytest.raises(TokenError, match=code):
            invoke("join", token)
        assert not home.path.exists()

    def test_changed_token_is_refused(self, invoke, home) -> None:
        token = token_until(2**33)
        swapped = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
        with pytest.raises(TokenError, match="SK-TOK-002"):
            invoke("join", swapped)

    def test_watch_ends_with_the_run(self, invoke, control) -> None:
        control.in_run(finished=True)
        out = invoke("join", token_until(None), "--watch")
        assert "finished" in out.splitlines()[-1]


class TestStatus:
    def test_as_text_holds_the_summary(self, invoke, control) -> None:
        control.in_run(loss=2.5).round.phase = "training"
        assert "loss 2.500" in invoke("status")

    def test_as_json_is_the_whole_reply(self, invoke, control) -> None:
        control.in_run(text_tokens=5)
        found = json.loads(invoke("status", "--format", "json"))
        assert found["run"]["text_tokens"] == 5
        assert list(found) == [field.name for field in pb.StatusReply.DESCRIPTOR.fields]

    def test_watched_as_json_is_one_line_each(self, invoke, control) -> None:
        control.in_run(finished=True)
        lines = invoke("status", "--watch", "--format", "json").splitlines()
        assert [json.loads(line)["run"]["finished"] for line in lines] == [True]

    def test_watched_lines_come_when_something_changed(self, invoke, control, monkeypatch) -> None:
        from skerry.node.cli import watch

        run = control.in_run()
        steps = iter([(1, False), (1, False), (2, True)])

        def advance(_: float) -> None:
            run.round.step, run.finished = next(steps)

        run.round.steps = 3
        monkeypatch.setattr(watch.time, "sleep", advance)
        lines = invoke("status", "--watch").splitlines()
        assert ["0/3" in lines[0], "1/3" in lines[1], "finished" in lines[2]] == [True] * 3
        assert len(lines) == 3

    def test_without_a_daemon_is_an_error(self, invoke, home) -> None:
        with pytest.raises(DaemonError, match="SK-DMN-001"):
            invoke("status")
        assert not home.path.exists()


class TestPeers:
    def test_lists_ids_states_and_addresses(self, invoke, control) -> None:
        run = control.in_run()
        run.peers.add(peer_id="12D3A", self=True, alive=True, addresses=["/ip4/1.2.3.4/tcp/5"])
        run.peers.add(peer_id="12D3B", head_round=7)
        run.peers.add(peer_id="12D3C", alive=True, phase="paused", seen_seconds_ago=61)
        run.peers[0].reputation = 1000
        run.peers[1].reputation, run.peers[1].doubt = 500, "direction"
        trust = {"reputation": 250, "influence": 250, "doubt": "newcomer"}
        run.peers[2].MergeFrom(pb.PeerStatus(**trust))
        heading, *lines = (line.split("  ") for line in invoke("peers").splitlines())
        cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
        assert [cell.strip() for cell in heading if cell] == [
            *("peer", "state", "link", "phase", "round", "text tokens/s", "loss", "reputation"),
            *("seen ago", "addresses"),
        ]
        own = "/ip4/1.2.3.4/tcp/5"
        assert cells[0] == ["12D3A", "this node", "-", "-", "0", "0", "-", "1.00", "0 s", own]
        doubted = "0.50, does not count: direction"
        assert cells[1] == ["12D3B", "joining", "-", "-", "7", "0", "-", doubted, "-"]
        newcomer = "0.25, counts 25%: newcomer"
        assert cells[2] == ["12D3C", "paused", "-", "paused", "0", "0", "-", newcomer, "1 min 01 s"]

    def test_says_last_what_this_node_waits_for(self, invoke, control) -> None:
        run = control.in_run()
        run.peers.add(peer_id="12D3A", self=True, alive=True, phase="observing")
        run.round.waiting_for.append("a plan that gives this peer something to host")
        run.round.phase_seconds = 90
        text = "waiting for a plan that gives this peer something to host (1 min 30 s)"
        assert invoke("peers").splitlines()[-1] == text
        assert text not in invoke("peers", "--admission")

    @pytest.mark.parametrize("flag", [["--format", "json"], ["--json"]])
    def test_as_json_is_a_list(self, invoke, control, flag) -> None:
        control.in_run().peers.add(peer_id="12D3A")
        assert [p["peer_id"] for p in json.loads(invoke("peers", *flag))] == ["12D3A"]

    def test_needs_a_run(self, invoke, control) -> None:
        with pytest.raises(DaemonError, match="SK-DMN-004"):
            invoke("peers")


class TestLogs:
    def test_as_text_and_as_json(self, invoke, control) -> None:
        control.lines = ['{"time": 0, "event": "a"}', '{"time": 0, "event": "b", "n": 1}']
        assert invoke("logs", "--last", "1").split(" ", 1)[1] == "b n=1\n"
        assert invoke("logs", "--format", "json").splitlines() == control.lines

    def test_follow_is_asked_for(self, invoke, control) -> None:
        invoke("logs", "--follow", "--last", "7")
        assert control.asked == [pb.LogsRequest(last=7, follow=True)]

    def test_replay_needs_a_recording(self, invoke, tmp_path) -> None:
        with pytest.raises(ConfigError, match="SK-CFG-003"):
            invoke("logs", "--replay", str(tmp_path / "missing.jsonl"))


def test_leave_and_export_ask_the_daemon(invoke, control, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("leave") == "left the run\n"
    assert f"directory     {tmp_path}/model" in invoke("export", "model").splitlines()
    assert control.asked == [pb.Empty(), pb.ExportRequest(directory=str(tmp_path / "model"))]


class TestPage:
    def test_link_carries_the_page_token(self, invoke, home, control) -> None:
        control.status.page_url = "http://127.0.0.1:8787/"
        token = load_or_create(home.page_token_file)
        assert invoke("page").strip() == f"http://127.0.0.1:8787/?token={token}"

    def test_daemon_without_a_page_is_told(self, invoke, control) -> None:
        with pytest.raises(DaemonError, match="SK-DMN-009"):
            invoke("page")


def test_pause_and_resume_ask_the_daemon(invoke, control) -> None:
    assert invoke("pause").startswith("paused")
    assert control.paused
    assert invoke("resume") == "training goes on\n"
    assert not control.paused


def test_detach_refuses_a_home_in_use(invoke, control) -> None:
    with pytest.raises(DaemonError, match="SK-DMN-002"):
        invoke("daemon", "--detach")


def test_detach_returns_when_the_daemon_answers_and_stop_ends_it(
    invoke, home, fake_command, monkeypatch
) -> None:
    from skerry.node.cli import background

    started = []
    start = background.start_daemon

    def remembered(*given):
        started.append(start(*given))
        return started[0]

    monkeypatch.setattr(background, "start_daemon", remembered)
    fake_command("serve")
    out = invoke("daemon", "--detach")
    assert out == f"daemon runs with process id {started[0].pid}; its log is {home.log_file}\n"
    assert home.lock_file.read_text() == f"{started[0].pid}\n"
    assert invoke("stop") == "the daemon has ended\n"
    assert started[0].wait() == 0


def test_daemon_runs_with_its_config_and_gives_its_exit_code(home, monkeypatch) -> None:
    seen = []
    module = types.ModuleType("skerry.node.daemon")
    module.run_daemon = lambda *given: seen.append(given) or 7
    monkeypatch.setitem(sys.modules, "skerry.node.daemon", module)
    arguments = ["daemon", "--home", str(home.path), "--port", "4001", "--log-level", "debug"]
    assert CliRunner().invoke(app, arguments).exit_code == 7
    ((place, load),) = seen
    assert place.path == home.path
    assert (load().listen.port, load().log.level) == (4001, "debug")
    home.config_file.write_text("[compute]\nthreads = 3")
    assert load().compute.threads == 3  # read again, upon a reload


def test_service_is_installed_with_the_flags_and_removed(home, monkeypatch) -> None:
    seen = []

    class Manager:
        def install(self, place, service) -> list[str]:
            seen.append((place.path, service.command[-1]))
            return ["done"]

        def uninstall(self, service) -> list[str]:
            seen.append(service.home)
            return ["gone"]

    monkeypatch.setattr("skerry.node.service.manager.find_manager", Manager)
    arguments = ["daemon", "--home", str(home.path)]
    assert CliRunner().invoke(app, [*arguments, "--install", "--port=4001"]).stdout == "done\n"
    assert CliRunner().invoke(app, [*arguments, "--uninstall"]).stdout == "gone\n"
    assert seen == [(home.path, "--port=4001"), home.path]
    home.create()
    home.config_file.write_text("[compute]\nthreads = -3")
    result = CliRunner().invoke(app, [*arguments, "--install"])
    assert isinstance(result.exception, ConfigError)
    assert len(seen) == 2


def test_demo_hands_its_options_on(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(demo, "run_demo", lambda options: seen.append(options) or 5)
    result = CliRunner().invoke(app, ["demo", "--peers", "4", "--json", "o.json", "--keep", "d"])
    assert result.exit_code == 5
    assert CliRunner().invoke(app, ["demo", "--rounds", "6"]).exit_code == 5
    assert seen == [
        demo.DemoOptions(peers=4, json_file=Path("o.json"), keep=Path("d")),
        demo.DemoOptions(rounds=6),
    ]


class TestTokenInspect:
    def inspect(self, token: str) -> dict[str, object]:
        result = CliRunner().invoke(app, ["token", "inspect", token, "--format", "json"])
        assert result.exit_code == 0
        return json.loads(result.stdout)

    def test_shows_what_is_inside(self) -> None:
        found = self.inspect(token_until(2_000_000_000))
        assert found["run_id"] == RUN_ID
        assert found["bootstrap"] == [f"/ip4/127.0.0.1/tcp/4001/p2p/{found['owner']}"]
        assert found["expires_at"] == datetime.fromtimestamp(2_000_000_000, UTC).isoformat()
        assert found["expired"] is False

    def test_shows_an_expired_and_an_endless_invite_and_none(self) -> None:
        assert self.inspect(token_until(1))["expired"] is True
        assert self.inspect(token_until(2**60))["expires_at"].startswith("9999-12-31")
        assert self.inspect(token_until(None))["expires_at"] is None

    def test_refuses_a_changed_token(self) -> None:
        result = CliRunner().invoke(app, ["token", "inspect", token_until(1)[:-3] + "AAA"])
        assert isinstance(result.exception, TokenError)


def test_keys_show_the_same_identity_again(invoke, home) -> None:
    first = json.loads(invoke("keys", "--format", "json"))
    assert first == json.loads(invoke("keys", "--format", "json"))
    assert first["peer_id"].startswith("12D3KooW")
    assert first["key_file"] == str(home.identity_file)
    assert first["peer_id"] in invoke("keys")
    if openssl := which("openssl"):  # an independent reader of the same file
        command = [openssl, "pkey", "-in", first["key_file"], "-pubout", "-outform", "DER"]
        der = subprocess.run(command, capture_output=True, check=True).stdout
        assert sha256(der).hexdigest() == first["fingerprint"]


def test_doctor_prints_checks_and_fails_with_them(home) -> None:
    arguments = ["doctor", "--home", str(home.path)]
    checks = json.loads(CliRunner().invoke(app, [*arguments, "--format", "json"]).stdout)
    assert {"python", "torch", "p2pd", "port", "key", "disk"} <= {c["name"] for c in checks}
    home.create()
    home.config_file.write_text("prot = 1")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "fail  config" in result.stdout
    assert "fix: Correct the key" in result.stdout
