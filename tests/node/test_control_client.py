"""The control client: every answer and every failure of a daemon as the command line needs it."""

import grpc
import pytest

from skerry.node.control_client import ControlClient
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import DaemonError, NetworkError, ProtocolError, SkerryError

CODED = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture
def client(home):
    with ControlClient(home.control_socket) as client:
        yield client


def test_no_daemon_is_said_with_the_socket(client, home) -> None:
    with pytest.raises(DaemonError, match="SK-DMN-001") as caught:
        client.status()
    assert str(home.control_socket) in caught.value.detail


def test_socket_of_a_killed_daemon_is_no_daemon(home) -> None:
    import socket

    home.create()
    stale = home.path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(stale))
    with ControlClient(stale) as other, pytest.raises(DaemonError, match="SK-DMN-001"):
        other.status()


def test_every_call_reaches_the_daemon(client, control, tmp_path) -> None:
    assert client.status().peer_id == control.status.peer_id
    assert client.init("name = 'first'").token == "skerry1TOKEN"
    assert client.join("skerry1X").name == "first"
    client.leave()
    assert client.export(tmp_path).directory == str(tmp_path)
    assert client.sample(pb.SampleRequest(prompt="ab")) == "ab!"
    client.stop()
    assert control.asked == [
        pb.Empty(),
        pb.InitRequest(manifest_toml="name = 'first'"),
        pb.JoinRequest(token="skerry1X"),
        pb.Empty(),
        pb.ExportRequest(directory=str(tmp_path)),
        pb.SampleRequest(prompt="ab"),
        pb.Empty(),
    ]


@pytest.mark.parametrize("follow", [False, True])
def test_logs_come_line_by_line(client, control, follow) -> None:
    control.lines = ["1", "2", "3"]
    assert list(client.logs(2, follow)) == ["2", "3"]
    assert control.asked == [pb.LogsRequest(last=2, follow=follow)]


@pytest.mark.parametrize(
    ("details", "kind", "code", "detail"),
    [
        ("SK-DMN-003: in run x", DaemonError, "SK-DMN-003", "in run x"),
        ("SK-NET-001: tried a\nand b", NetworkError, "SK-NET-001", "tried a\nand b"),
        ("SK-PRO-002: other run", ProtocolError, "SK-PRO-002", "other run"),
        ("SK-XYZ-999: too new", DaemonError, "SK-DMN-006", "SK-XYZ-999: too new"),
        ("no code", DaemonError, "SK-DMN-006", "FAILED_PRECONDITION: no code"),
    ],
)
def test_coded_refusal_becomes_the_error_it_was(
    client, control, details, kind, code, detail
) -> None:
    control.refusal = (CODED, details)
    with pytest.raises(kind) as caught:
        client.join("skerry1X")
    assert (caught.value.code, caught.value.detail) == (code, detail)
    with pytest.raises(kind):
        list(client.logs(1))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, "SK-DMN-001"),
        (grpc.StatusCode.CANCELLED, "SK-DMN-001"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "SK-DMN-001"),
        (grpc.StatusCode.UNKNOWN, "SK-DMN-006"),
        (grpc.StatusCode.INTERNAL, "SK-DMN-006"),
    ],
)
def test_other_failures_are_coded_too(client, control, status, code) -> None:
    control.refusal = (status, "SK-NET-001: not a coded refusal")
    with pytest.raises(SkerryError) as caught:
        client.leave()
    assert caught.value.code == code


def test_hung_daemon_is_not_waited_for_longer_than_the_deadline(client, control) -> None:
    control.hang.clear()
    with pytest.raises(DaemonError, match=r"SK-DMN-001: .*did not answer in time"):
        client.status(deadline=0.2)
