"""Which transport is chosen, and that nothing of the other is imported."""

import subprocess
import sys

import pytest
from both_libraries import needs_libp2p
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node import network
from skerry.node.config import ListenSection, load_config
from skerry.node.network import start_network, transport_of
from skerry.node.run.acquaintances import keep_asking
from skerry.protocol.errors import ConfigError, NetworkError

KEY = Ed25519PrivateKey.generate()


@pytest.mark.parametrize("there, chosen", [(True, "p2pd"), (False, "py-libp2p")])
def test_p2pd_is_used_where_it_is_there(monkeypatch, there: bool, chosen: str) -> None:
    monkeypatch.setattr(network, "has_p2pd", lambda: there)
    assert transport_of("auto") == chosen
    assert transport_of("p2pd") == "p2pd"
    assert transport_of("py-libp2p") == "py-libp2p"


def test_hivemind_without_its_binary_is_not_p2pd(monkeypatch, tmp_path) -> None:
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert not network.has_p2pd()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not network.has_p2pd()


def test_setting_names_the_transport(home) -> None:
    home.create()
    home.config_file.write_text('[listen]\ntransport = "py-libp2p"\n')
    assert load_config(home.config_file).listen.transport == "py-libp2p"
    home.config_file.write_text('[listen]\ntransport = "carrier pigeon"\n')
    with pytest.raises(ConfigError):
        load_config(home.config_file)


async def test_missing_library_is_said_with_its_fix(home, monkeypatch) -> None:
    monkeypatch.setattr(network, "has_pylibp2p", lambda: False)
    with pytest.raises(NetworkError, match="SK-NET-005") as caught:
        await start_network(home, ListenSection(transport="py-libp2p"), 0, KEY)
    assert "libgmp-dev" in caught.value.fix


@needs_libp2p
async def test_py_libp2p_finds_members_by_asking(home) -> None:
    listen = ListenSection(host="127.0.0.1", transport="py-libp2p")
    found = await start_network(home, listen, 0, KEY)
    assert found.discovery is keep_asking
    assert found.transport.addresses[0].startswith("/ip4/127.0.0.1/tcp/")
    await found.transport.close()


@needs_libp2p
def test_daemon_with_py_libp2p_does_without_hivemind() -> None:
    code = (
        "import sys; sys.modules['hivemind'] = None\n"
        "import skerry.node.daemon, skerry.node.net.pylibp2p.transport\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
