"""The port is kept over restarts unless it is set, taken or nonsense."""

import socket

import pytest

from skerry.node.config import ListenSection
from skerry.node.port import keep_port, port_to_use


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "port"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_first_tcp_port_is_kept_and_used_again(kept) -> None:
    port = free_port()
    keep_port(("/ip4/127.0.0.1/udp/9/quic", f"/ip4/127.0.0.1/tcp/{port}", "/ip4/1/tcp/5"), kept)
    assert port_to_use(ListenSection(host="127.0.0.1"), kept) == port


def test_configured_port_wins(kept) -> None:
    kept.write_text(str(free_port()))
    assert port_to_use(ListenSection(port=4001), kept) == 4001


def test_port_in_use_is_given_up(kept) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept.write_text(str(server.getsockname()[1]))
        assert port_to_use(ListenSection(host="127.0.0.1"), kept) == 0


@pytest.mark.parametrize("content", ["", "many", "-1", "99999999"])
def test_nonsense_is_given_up(kept, content) -> None:
    kept.write_text(content)
    assert port_to_use(ListenSection(host="127.0.0.1"), kept) == 0


def test_nothing_is_kept_without_a_tcp_address(kept) -> None:
    keep_port(("/ip4/127.0.0.1/udp/9/quic",), kept)
    assert not kept.exists()
