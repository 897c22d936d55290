"""The ``skerry`` command as a user meets it: real processes, their exit codes and messages."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from skerry.node.cli.main import app

COMMANDS = [
    ["daemon"],
    ["init"],
    ["join"],
    ["plan"],
    ["status"],
    ["peers"],
    ["logs"],
    ["leave"],
    ["pause"],
    ["resume"],
    ["remove"],
    ["readmit"],
    ["set", "outer-lr"],
    ["invite"],
    ["page"],
    ["explain"],
    ["stop"],
    ["export"],
    ["doctor"],
    ["demo"],
    ["token", "inspect"],
    ["keys"],
]


@pytest.fixture
def skerry(home):
    """Run the command in a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "skerry.node.cli.main", *arguments],
            env={**os.environ, "SKERRY_HOME": str(home.path), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return run


def refused(result: subprocess.CompletedProcess[str], exit_code: int, code: str) -> str:
    """Check that a refusal is one coded line and one fix, and return the detail."""
    assert result.returncode == exit_code, result.stderr
    assert result.stdout == ""
    error, fix = result.stderr.splitlines()
    assert error.startswith(f"error {code}: ")
    assert fix.startswith("fix: ")
    return error.removeprefix(f"error {code}: ")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_teaches_by_example(command) -> None:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"skerry {' '.join(command)}" in re.split("Examples?:", result.stdout)[1]


def test_main_help_lists_every_command_and_the_exit_codes(skerry) -> None:
    result = skerry("--help", COLUMNS="120")
    assert result.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^│ {command[0]} ", result.stdout, re.MULTILINE)
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130):
        assert re.search(rf" {number}  \w", result.stdout.split("Exit codes:")[1])


def test_version_is_that_of_the_package(skerry) -> None:
    from importlib.metadata import version

    assert skerry("--version").stdout == f"skerry {version('skerry')}\n"


@pytest.mark.parametrize("arguments", [["--bogus"], ["status", "--format", "xml"], ["nothing"]])
def test_wrong_usage_is_a_configuration_error(skerry, arguments) -> None:
    assert skerry(*arguments).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["peers"], ["leave"], ["stop"], ["export", "x"], ["logs"], ["status", "--watch"]],
    ids=" ".join,
)
def test_no_daemon(skerry, home, arguments) -> None:
    assert str(home.path) in refused(skerry(*arguments), 8, "SK-DMN-001")
    assert not home.path.exists()


def test_wrong_token(skerry, home) -> None:
    refused(skerry("join", "skerry1nonsense"), 3, "SK-TOK-001")
    assert not home.path.exists()


def test_missing_run_file(skerry, home) -> None:
    detail = refused(skerry("init", "missing.toml"), 2, "SK-CFG-003")
    assert "missing.toml: No such file" in detail
    assert not home.path.exists()


def test_unknown_key_with_a_suggestion(skerry, home) -> None:
    home.create()
    home.config_file.write_text("[listen]\nprot = 4001\n")
    detail = refused(skerry("daemon"), 2, "SK-CFG-001")
    assert "did you mean 'port'?" in detail


def test_unknown_variable_with_a_suggestion(skerry) -> None:
    detail = refused(skerry("daemon", SKERRY_LISTEN_PORT="1"), 2, "SK-CFG-001")
    assert "did you mean SKERRY_LISTEN__PORT?" in detail


def test_unreadable_key(skerry, home) -> None:
    home.create()
    home.identity_file.write_text("not a key")
    home.identity_file.chmod(0o600)
    assert str(home.identity_file) in refused(skerry("keys"), 2, "SK-KEY-001")
    home.identity_file.chmod(0o644)
    assert "0644" in refused(skerry("keys"), 2, "SK-KEY-002")


def test_second_daemon_on_the_same_home(skerry, home) -> None:
    with home.lock():
        assert str(os.getpid()) in refused(skerry("daemon", "--detach"), 8, "SK-DMN-002")


def test_home_that_cannot_be_made(skerry, tmp_path) -> None:
    (tmp_path / "file").touch()
    result = skerry("keys", "--home", str(tmp_path / "file" / "home"))
    assert "Not a directory" in refused(result, 6, "SK-DSK-003")


def test_status_of_a_running_daemon(skerry, control) -> None:
    control.in_run(val_loss=2.25)
    result = skerry("status")
    assert result.returncode == 0
    assert "val loss 2.250" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "position", "found"),
    [
        ("skerry pa", 1, ["pause", "page"]),
        ("skerry logs --home {home} --event peer", 5, ["peer-down", "peer-up"]),
        ("skerry logs --since ", 3, ["90s", "10m", "2h", "1d"]),
        ("skerry status --format ", 3, ["text", "json"]),
        ("skerry explain SK-BLB", 2, []),
    ],
)
def test_shell_completes_commands_options_and_what_the_log_holds(
    home, words, position, found
) -> None:
    home.create()
    lines = [json.dumps({"time": 1, "event": f"peer-{name}"}) for name in ("up", "down")]
    home.events_file.write_text("\n".join([*lines, '{"time": 1, "event": "began"}']))
    asked = {"COMP_WORDS": words.format(home=home.path), "COMP_CWORD": str(position)}
    result = CliRunner().invoke(
        app, [], env={"_SKERRY_COMPLETE": "complete_bash", **asked}, prog_name="skerry"
    )
    assert result.stdout.split() == found


def test_hung_daemon_is_an_error_not_a_wait(skerry, control) -> None:
    control.hang.clear()
    refused(skerry("status"), 8, "SK-DMN-001")


def test_interrupted_view_ends_with_130_and_no_traceback(home, control) -> None:
    control.in_run()
    command = [sys.executable, "-m", "skerry.node.cli.main", "status", "--watch"]
    with subprocess.Popen(
        [*command, "--home", str(home.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
        assert child.stderr.read() == b""


def test_closed_pipe_is_no_traceback(home, control) -> None:
    control.lines = ['{"time": 0, "event": "x", "pad": "%s"}' % ("y" * 1000)] * 1000
    command = [sys.executable, "-m", "skerry.node.cli.main", "logs", "--last", "1000"]
    with subprocess.Popen(
        [*command, "--home", str(home.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()
    assert child.returncode == 1


@pytest.mark.parametrize("arguments", [["status"], ["logs"], ["leave"], ["join", "skerry1x"]])
def test_nothing_slow_is_loaded(home, arguments) -> None:
    """What would cost seconds: torch, hivemind, numpy; the settings only daemons need."""
    code = (
        "import sys; from skerry.node.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "SKERRY_HOME": str(home.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert "typer" in loaded
    assert not loaded & {"torch", "hivemind", "numpy", "transformers", "pydantic_settings"}


def test_environment_cannot_turn_on_the_fork_handlers_of_grpc() -> None:
    seen = "from skerry.node.cli.main import main; import atexit, os;"
    seen += "atexit.register(lambda: print(os.environ['GRPC_ENABLE_FORK_SUPPORT'])); main()"
    ran = subprocess.run(
        [sys.executable, "-c", seen, "--version"],
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "false"
