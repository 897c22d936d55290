"""Orders and invites from the command line: what the daemon is asked, and what is printed."""

import json
from dataclasses import replace

import fake_daemon
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError, OrderError
from skerry.protocol.ids import RunId, short
from skerry.protocol.signing import Signer
from skerry.protocol.token import JoinToken, encode_token, make_invite

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
        (
            ["allow", fake_daemon.PEER],
            pb.OrderRequest(allow=fake_daemon.PEER),
            f"{NAME} may join after the next round's commit",
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
    invoke("invite", "--uses", "2")
    assert control.asked[-1] == pb.InviteRequest(max_uses=2)


def by_invite(control) -> None:
    """Let the daemon tell of one peer that came by an invite for two."""
    right = pb.AdmissionStatus(right="invite", invite=fake_daemon.INVITE, max_uses=2, uses=1)
    right.inviter, right.expires_at = fake_daemon.OTHER, 2**62
    control.in_run(peers=[pb.PeerStatus(peer_id=fake_daemon.PEER, admission=right)])


def test_revoke_takes_a_name_or_a_token_and_removes_whom_it_let_in(invoke, control) -> None:
    wanted = pb.RevokeRequest(invite=fake_daemon.INVITE, reason="leaked")
    told = f"order 3 is out: invite {fake_daemon.INVITE} lets nobody in after the next round's "
    assert invoke("revoke", fake_daemon.INVITE, "--reason", "leaked") == f"{told}commit\n"
    assert control.asked[-1] == pb.OrderRequest(revoke=wanted)
    signer = Signer(Ed25519PrivateKey.generate())
    nonce = bytes.fromhex(fake_daemon.INVITE)
    invite = make_invite(signer, RunId("ab" * 32), 2**33, nonce)
    bootstrap = (f"/ip4/192.0.2.1/tcp/1/p2p/{signer.peer_id}",)
    token = JoinToken(bootstrap, RunId("ab" * 32), signer.peer_id, invite)
    by_invite(control)
    asked = len(control.asked)
    lines = invoke("revoke", encode_token(token), "--with-peers").splitlines()
    removed = pb.OrderRequest(remove=pb.RemoveRequest(peer=fake_daemon.PEER))
    assert [r for r in control.asked[asked:] if isinstance(r, pb.OrderRequest)] == [
        pb.OrderRequest(revoke=pb.RevokeRequest(invite=fake_daemon.INVITE)),
        removed,
    ]
    assert lines[1] == f"order 3 is out: {NAME} is removed with the next round's commit"
    with pytest.raises(OrderError, match="holds no invite"):
        invoke("revoke", encode_token(replace(token, invite=None)))


def test_peers_tells_by_what_right_each_takes_part(invoke, control) -> None:
    by_invite(control)
    heading, *lines = invoke("peers", "--admission").splitlines()
    assert heading.split()[:3] == ["peer", "right", "invite"]
    assert len(lines) == 1 and fake_daemon.INVITE in lines[0]
    assert "1 of 2" in lines[0] and lines[0].endswith("may be taken in")


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
