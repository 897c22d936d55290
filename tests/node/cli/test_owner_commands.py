"""Orders and invites from the command line: what the daemon is asked, and what is printed."""

import json

import fake_daemon
import grpc
import pytest

from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError, OrderError
from skerry.protocol.ids import short

NAME = short(fake_daemon.PEER)


@pytest.mark.parametrize(
    ("arguments", "request_", "words"),
    [
        (
            ["remove", "9fKq2x", "--reason", "too slow"],
            pb.OrderRequest(remove=pb.RemoveRequest(peer="9fKq2x", reason="too slow")),
            f"{NAME} is removed with the next round's commit",
        ),
        (
            ["readmit", "9fKq2x"],
            pb.OrderRequest(readmit="9fKq2x"),
            f"{NAME} may come back after the next round's commit",
        ),
        (
            ["set", "outer-lr", "0.7"],
            pb.OrderRequest(outer_lr=0.7),
            "the outer learning rate is 0.7 after the next round's commit",
        ),
        (
            ["set", "outer-lr", "run-file"],
            pb.OrderRequest(outer_lr=0.0),
            "the outer learning rate is run-file after the next round's commit",
        ),
    ],
)
def test_order_is_passed_on_and_its_effect_told(
    invoke, control, arguments, request_, words
) -> None:
    assert invoke(*arguments) == f"order 3 is out: {words}\n"
    assert control.asked[-1] == request_
    found = json.loads(invoke(*arguments, "--json"))
    assert found == {"sequence": 3, "peer": fake_daemon.PEER}


@pytest.mark.parametrize("value", ["0", "nan", "much"])
def test_rate_that_is_none_is_refused_here(invoke, control, value) -> None:
    with pytest.raises(ConfigError, match="SK-CFG-002"):
        invoke("set", "outer-lr", value)


def test_invite_prints_a_token_and_the_line_to_copy(invoke, control) -> None:
    assert invoke("invite").splitlines()[2:] == [
        "token        skerry1FRESH",
        "others type  skerry join skerry1FRESH",
    ]
    assert control.asked[-1] == pb.InviteRequest()
    assert json.loads(invoke("invite", "--expires", "12h", "--json"))["token"] == "skerry1FRESH"
    assert control.asked[-1] == pb.InviteRequest(lifetime_seconds=12 * 3600)


@pytest.mark.parametrize("expires", ["soon", "0h", "-1h"])
def test_wrong_expiry_is_refused_here(invoke, control, expires) -> None:
    with pytest.raises(ConfigError, match="SK-CFG-002"):
        invoke("invite", f"--expires={expires}")


def test_refusal_of_the_daemon_is_passed_on(invoke, control) -> None:
    detail = "SK-OWN-001: not this node's to change"
    control.refusal = (grpc.StatusCode.FAILED_PRECONDITION, detail)
    with pytest.raises(OrderError, match="SK-OWN-001") as refused:
        invoke("remove", "9fKq2x")
    assert refused.value.exit_code == 9
