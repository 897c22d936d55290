"""Settings: which source wins, and what a wrong one is told."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.node.config import NodeConfig, load_config
from skerry.protocol.errors import ConfigError

ports = st.none() | st.integers(0, 65535)


def test_without_any_source_the_defaults_hold(home) -> None:
    config = load_config(home.config_file)
    assert config == NodeConfig()
    assert (config.listen.host, config.listen.port, config.compute.threads) == ("0.0.0.0", 0, 0)


@given(in_file=ports, in_environment=ports, as_flag=ports)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flag_beats_environment_beats_file(home, in_file, in_environment, as_flag) -> None:
    home.create()
    line = "" if in_file is None else f"port = {in_file}"
    home.config_file.write_text(f'[listen]\nhost = "127.0.0.1"\n{line}')
    flags = {"listen": {"port": as_flag}} if as_flag is not None else {}
    with pytest.MonkeyPatch.context() as patch:
        if in_environment is not None:
            patch.setenv("SKERRY_LISTEN__PORT", str(in_environment))
        config = load_config(home.config_file, flags)
    given_ports = [p for p in (as_flag, in_environment, in_file) if p is not None]
    assert config.listen.port == (given_ports[0] if given_ports else 0)
    assert config.listen.host == "127.0.0.1"


def test_every_setting_has_a_variable(home, monkeypatch) -> None:
    variables = {
        "SKERRY_LISTEN__HOST": "::1",
        "SKERRY_LISTEN__PORT": "4001",
        "SKERRY_LISTEN__ANNOUNCE": "/ip4/203.0.113.7/tcp/1, /dns4/a.example/tcp/2",
        "SKERRY_COMPUTE__THREADS": "2",
        "SKERRY_LOG__LEVEL": "debug",
        "SKERRY_PAGE__NAMES": "Page.example, other.example",
        "SKERRY_PAGE__ENABLED": "false",
        "SKERRY_HEARTBEAT__INTERVAL": "500ms",
        "SKERRY_HOME": "/anywhere",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = load_config(home.config_file)
    assert config.listen.host == "::1"
    assert config.listen.announce == ("/ip4/203.0.113.7/tcp/1", "/dns4/a.example/tcp/2")
    assert config.listen.port == 4001
    assert config.compute.threads == 2
    assert config.log.level == "debug"
    assert config.page.names == ("page.example", "other.example")
    assert not config.page.enabled
    assert config.heartbeat.interval == 0.5


def test_environment_reaches_the_config_through_load_only(monkeypatch) -> None:
    monkeypatch.setenv("SKERRY_LISTEN__PORT", "4001")
    assert NodeConfig().listen.port == 0


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("[listen]\nprot = 1", "SK-CFG-001", ["'listen.prot'", "did you mean 'port'?"]),
        ("[lisen]\nport = 1", "SK-CFG-001", ["'lisen'", "did you mean 'listen'?"]),
        ("[listen]\nport = 70000", "SK-CFG-002", ["listen.port", "65535", "70000"]),
        ("[listen]\nport = 'x'", "SK-CFG-002", ["listen.port", "'x'"]),
        ("listen = 3", "SK-CFG-002", ["listen"]),
        ("[listen]\nhost = 'localhost:1'", "SK-CFG-002", ["listen.host", "localhost:1"]),
        ("[listen]\nannounce = ['1.2.3.4']", "SK-CFG-002", ["announce", "/ip4/203.0.113.7"]),
        (
            "[listen]\nrelays = ['/ip4/192.0.2.1/tcp/1']",
            "SK-CFG-002",
            ["relays", "not a relay such"],
        ),
        ("[heartbeat]\ninterval = '2 weeks'", "SK-CFG-002", ["interval", "number and a unit"]),
        ("[page]\nhost = 'example.org'", "SK-CFG-002", ["page.host", "example.org"]),
        ("[page]\nnames = ['http://x/']", "SK-CFG-002", ["page.names", "skerry.example.org"]),
        ("[log]\nlevel = 'loud'", "SK-CFG-002", ["log.level", "loud"]),
        ("[listen\nport = 1", "SK-CFG-003", ["not TOML", "line 1"]),
        ("a = '\udcff'", "SK-CFG-003", ["not TOML", "utf-8"]),
    ],
)
def test_wrong_file_is_explained(home, text, code, words) -> None:
    home.create()
    home.config_file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        load_config(home.config_file)
    assert caught.value.code == code
    for word in [*words, str(home.config_file)]:
        assert word in caught.value.detail


def test_unreadable_file_is_explained(home) -> None:
    home.config_file.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"SK-CFG-003: .*Is a directory"):
        load_config(home.config_file)


def test_unknown_variable_is_an_error_with_a_suggestion(home, monkeypatch) -> None:
    monkeypatch.setenv("SKERRY_LISTEN_PORT", "4001")
    with pytest.raises(ConfigError, match=r"SKERRY_LISTEN_PORT; did you mean SKERRY_LISTEN__PORT"):
        load_config(home.config_file)


def test_unknown_variable_like_no_other_lists_them(home, monkeypatch) -> None:
    monkeypatch.setenv("SKERRY_XYZZY_QQQQQQQ", "1")
    with pytest.raises(
        ConfigError, match=r"SK-CFG-001: .*SKERRY_XYZZY_Q+; known: .*SKERRY_LOG__LEVEL"
    ):
        load_config(home.config_file)


def test_wrong_variable_is_named_as_environment(home, monkeypatch) -> None:
    monkeypatch.setenv("SKERRY_LISTEN__PORT", "many")
    with pytest.raises(ConfigError, match=r"SK-CFG-002: environment: listen\.port.*'many'"):
        load_config(home.config_file)


def test_wrong_flag_is_named_as_command_line(home) -> None:
    with pytest.raises(ConfigError, match=r"SK-CFG-002: command line: compute\.threads"):
        load_config(home.config_file, {"compute": {"threads": -1}})


def test_whole_section_in_one_variable_is_refused(home, monkeypatch) -> None:
    monkeypatch.setenv("SKERRY_LISTEN", "{broken")
    with pytest.raises(ConfigError, match="SK-CFG-001"):
        load_config(home.config_file)
