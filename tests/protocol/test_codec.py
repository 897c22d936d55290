"""The codec: messages survive the wire, and nothing else gets in."""

import math
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.proto import peer_pb2 as pb
from skerry.protocol import codec, fields
from skerry.protocol.errors import ProtocolError
from skerry.protocol.fields import FASTEST, SLOWEST
from skerry.protocol.ids import Address, CommitHash, RunId
from skerry.protocol.messages import (
    FULL,
    MAX_DOUBTS,
    MAX_LINKS,
    MAX_OUTER_LR,
    AllowPeer,
    Announce,
    Commit,
    Envelope,
    Finding,
    Heartbeat,
    Invite,
    Judgement,
    Kind,
    LinkFigures,
    MemberRecord,
    Offer,
    Order,
    ReadmitPeer,
    RemovePeer,
    RevokeInvite,
    RoleOffer,
    SetOuterLr,
    ShadowCopy,
    ShardPayload,
    ShardState,
    Signed,
)
from skerry.protocol.rings.plan import Hop, Member, Path, Plan, Ring, Stage
from skerry.protocol.signing import Signer

SIGNERS = [Signer(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32)) for i in range(1, 5)]
RUN = RunId("ab" * 32)

hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
counts = st.integers(0, fields.MAX_COUNT)
small = st.integers(0, 2**32 - 1)
nonces = st.binary(min_size=16, max_size=16)
speeds = st.just(0.0) | st.floats(SLOWEST, FASTEST)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
printable = st.characters(min_codepoint=32, max_codepoint=126)
names = st.text(printable, max_size=codec.MAX_NAME_CHARS)
signers = st.sampled_from(SIGNERS)
peers = signers.map(lambda signer: signer.peer_id)

invites = st.builds(
    Invite,
    run_id=hashes.map(RunId),
    expires_at=counts,
    nonce=nonces,
    max_uses=st.integers(0, codec.MAX_INVITE_USES),
)


def a_plan(version: int = 3) -> Plan:
    """Return a ring of two beside a spare."""
    members = (Member(SIGNERS[0].peer_id, (0,), 1), Member(SIGNERS[1].peer_id, (1,), 2))
    path = Path((Hop(0, (0,)), Hop(1, (1,))), 4)
    stages = (Stage(("embed", "head")), Stage(("block.0",)))
    return Plan(version, 128, stages, (Ring(members, (path,), 2),), (SIGNERS[2].peer_id,))


def signed(messages):
    return st.builds(codec.sign_message, signers, messages)


members = st.builds(
    MemberRecord,
    run_id=hashes.map(RunId),
    addresses=st.lists(st.text(printable, max_size=40), max_size=3).map(tuple),
    invite=st.none() | signed(invites).map(lambda s: s.envelope),
    expires_at=counts,
    agent=names,
    offer=st.builds(
        Offer,
        role=st.sampled_from(RoleOffer),
        memory=counts,
        forward=speeds,
        backward=speeds,
    ),
)
payloads = st.builds(ShardPayload, shard=names, address=hashes.map(Address), size=counts)
states = st.lists(st.builds(ShardState, shard=names, address=hashes.map(Address)), max_size=3).map(
    tuple
)
announces = st.builds(
    Announce,
    run_id=hashes.map(RunId),
    round=counts,
    parent=hashes.map(CommitHash),
    state=states,
    text_tokens=counts,
    round_tokens=counts,
    loss=floats,
    shards=st.lists(payloads, max_size=3).map(tuple),
).flatmap(
    lambda made: st.sampled_from([(), tuple(0.5 * i for i in range(len(made.shards)))]).map(
        lambda norms: replace(made, norms=norms)
    )
)
commits = st.builds(
    Commit,
    run_id=hashes.map(RunId),
    round=counts,
    view=small,
    parent=hashes.map(CommitHash),
    state=states,
    announces=st.lists(signed(announces), max_size=2).map(tuple),
    roster=st.lists(peers, max_size=4).map(tuple),
    admissions=st.lists(signed(members), max_size=2).map(tuple),
    cursor=counts,
    weight=counts,
)
orders = st.builds(
    Order,
    run_id=hashes.map(RunId),
    sequence=counts,
    change=st.one_of(
        st.builds(RemovePeer, peer=peers, reason=st.text(printable, max_size=60)),
        st.builds(ReadmitPeer, peer=peers),
        st.builds(SetOuterLr, lr=st.none() | st.floats(1e-9, MAX_OUTER_LR)),
        st.builds(RevokeInvite, nonce=nonces, reason=st.text(printable, max_size=60)),
        st.builds(AllowPeer, peer=peers),
    ),
)
commits = st.builds(
    lambda commit, orders, plan: replace(commit, orders=orders, plan=plan),
    commits,
    st.lists(signed(orders), max_size=2).map(tuple),
    st.none() | st.builds(a_plan, counts),
)
heartbeats = st.builds(
    Heartbeat,
    run_id=hashes.map(RunId),
    head=hashes.map(CommitHash),
    head_round=counts,
    weight=counts,
    phase=names,
    step=small,
    steps=small,
    tokens_per_second=floats,
    loss=floats,
    block_rate=speeds,
    links=st.lists(
        st.builds(LinkFigures, peers, counts, counts), max_size=3, unique_by=lambda one: one.peer
    ).map(tuple),
)
findings = st.builds(
    Finding,
    run_id=hashes.map(RunId),
    commit=hashes.map(CommitHash),
    subject=peers,
    gain=st.floats(width=32, allow_infinity=False, max_value=-(2.0**-20)),
)
shadows = st.builds(
    ShadowCopy,
    run_id=hashes.map(RunId),
    shard=names,
    round=counts,
    parts=st.lists(payloads, max_size=3).map(tuple),
    step=st.integers(0, 2**32 - 1),
)
judgements = st.builds(
    Judgement,
    peer=peers,
    influence=st.integers(0, FULL - 1),
    reason=st.text(printable, min_size=1, max_size=60),
)
commits = st.builds(
    lambda commit, judgements, findings: replace(commit, judgements=judgements, findings=findings),
    commits,
    st.lists(judgements, max_size=3).map(tuple),
    st.lists(signed(findings), max_size=2).map(tuple),
)
messages = st.one_of(invites, members, announces, commits, heartbeats, orders, findings, shadows)


def a_shard(**changes) -> ShardPayload:
    return replace(ShardPayload("embed", Address("aa" * 32), 10), **changes)


def a_state(**changes) -> ShardState:
    return replace(ShardState("embed", Address("02" * 32)), **changes)


def an_announce(**changes) -> Announce:
    usual = Announce(RUN, 3, CommitHash("01" * 32), (a_state(),), 60, 30, 1.5, (a_shard(),))
    return replace(usual, **changes)


def a_commit(**changes) -> Commit:
    usual = Commit(
        run_id=RUN,
        round=3,
        view=0,
        parent=CommitHash("01" * 32),
        state=(a_state(),),
        announces=(codec.sign_message(SIGNERS[0], an_announce()),),
        roster=(SIGNERS[0].peer_id,),
        admissions=(),
        cursor=9,
        weight=60,
    )
    return replace(usual, **changes)


def a_beat(**changes) -> Heartbeat:
    return replace(
        Heartbeat(RUN, CommitHash("01" * 32), 3, 60, "training", 1, 3, 10.0, 1.5), **changes
    )


def a_member(**changes) -> MemberRecord:
    return replace(MemberRecord(RUN, ("/ip4/1.2.3.4/tcp/1",), None, 99, "skerry/0.1.0"), **changes)


def an_order(change) -> Order:
    return Order(RUN, 1, change)


def travelled(message) -> Signed:
    envelope = codec.sign_message(SIGNERS[0], message).envelope
    return codec.open_envelope(codec.decode_envelope(codec.encode_envelope(envelope)))


def refused(message) -> str:
    with pytest.raises(ProtocolError) as caught:
        travelled(message)
    return caught.value.reason


@settings(max_examples=300, deadline=None)
@given(signers, messages)
def test_every_message_comes_back_as_it_was_sent(signer, message):
    sent = codec.sign_message(signer, message)
    envelope = codec.decode_envelope(codec.encode_envelope(sent.envelope))
    assert codec.open_envelope(envelope) == sent
    assert envelope.hash == sent.hash


@settings(max_examples=100, deadline=None)
@given(messages)
def test_the_same_message_always_gives_the_same_bytes(message):
    kind, body = codec.encode(message)
    again = codec.open_envelope(SIGNERS[1].sign(kind, body)).message
    assert codec.encode(again) == (kind, body)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(list(Kind)), st.binary(max_size=400))
def test_random_bytes_raise_only_the_protocol_error(kind, body):
    try:
        codec.open_envelope(SIGNERS[0].sign(kind, body))
    except ProtocolError:
        return


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400))
def test_random_envelopes_raise_only_the_protocol_error(data):
    with pytest.raises(ProtocolError):
        codec.decode_envelope(data)


@settings(max_examples=600, deadline=None)
@given(messages, st.data())
def test_a_mutated_body_is_refused_or_still_a_sound_message(message, data):
    # Signed again after the mutation: the sender itself is hostile.
    kind, body = codec.encode(message)
    raw = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    try:
        opened = codec.open_envelope(SIGNERS[0].sign(kind, bytes(raw[:cut])))
    except ProtocolError:
        return
    assert codec.encode(opened.message)[0] is kind


@settings(max_examples=200, deadline=None)
@given(messages, st.data())
def test_a_body_changed_after_signing_is_refused(message, data):
    envelope = codec.sign_message(SIGNERS[0], message).envelope
    raw = bytearray(envelope.body)
    if not raw:
        return
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolError):
        codec.open_envelope(replace(envelope, body=bytes(raw)))


def test_a_signature_holds_for_one_kind_and_one_signer_only():
    envelope = codec.sign_message(SIGNERS[0], a_beat()).envelope
    for other in (
        replace(envelope, kind=Kind.ANNOUNCE),
        replace(envelope, signer=SIGNERS[1].peer_id),
        replace(envelope, signature=bytes(64)),
    ):
        with pytest.raises(ProtocolError) as caught:
            codec.open_envelope(other)
        assert caught.value.reason == "signature"


@pytest.mark.parametrize("kind", list(Kind))
def test_a_body_beyond_its_kind_s_limit_is_refused_unparsed(kind, monkeypatch):
    def parse(*_):
        raise AssertionError("parsed")

    monkeypatch.setattr(codec, "parsed", parse)
    body = bytes(codec.MAX_BODY_BYTES[kind] + 1)
    with pytest.raises(ProtocolError) as caught:
        codec.open_envelope(Envelope(kind, body, SIGNERS[0].peer_id, bytes(64)))
    assert caught.value.reason == "size"
    wire = pb.Envelope(kind=kind.name, body=body, signer=SIGNERS[0].peer_id, signature=bytes(64))
    with pytest.raises(ProtocolError) as caught:
        codec.envelope_from_pb(wire)
    assert caught.value.reason == "size"


def test_a_stored_envelope_beyond_the_largest_is_refused():
    with pytest.raises(ProtocolError) as caught:
        codec.decode_envelope(bytes(codec.MAX_BODY_BYTES[Kind.COMMIT] + 1025))
    assert caught.value.reason == "size"


AN_ORDER = codec.sign_message(SIGNERS[0], an_order(SetOuterLr(0.5)))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (an_announce(shards=(a_shard(),) * (codec.MAX_SHARDS + 1)), "size"),
        (an_announce(shards=(a_shard(shard="x" * 65),)), "malformed"),
        (an_announce(shards=(a_shard(shard="a\nb"),)), "malformed"),
        (an_announce(shards=(a_shard(size=fields.MAX_COUNT + 1),)), "range"),
        (an_announce(shards=(a_shard(address=Address("aa" * 31)),)), "malformed"),
        (an_announce(norms=(1.0, 1.0)), "size"),
        (an_announce(norms=(-1.0,)), "range"),
        (an_announce(norms=(math.nan,)), "non-finite"),
        (an_announce(norms=(math.inf,)), "non-finite"),
        (an_announce(loss=math.nan), "non-finite"),
        (an_announce(loss=math.inf), "non-finite"),
        (an_announce(text_tokens=fields.MAX_COUNT + 1), "range"),
        (an_announce(parent=CommitHash("")), "malformed"),
        (a_beat(phase="x" * 65), "malformed"),
        (a_beat(tokens_per_second=-math.inf), "non-finite"),
        (a_beat(block_rate=math.nan), "non-finite"),
        (a_beat(block_rate=-1.0), "range"),
        (a_beat(block_rate=FASTEST * 2), "range"),
        (a_beat(block_rate=SLOWEST / 2), "range"),
        (a_beat(links=(LinkFigures("nobody", 1, 1),)), "peer-id"),
        (a_beat(links=(LinkFigures(SIGNERS[0].peer_id, 1, fields.MAX_COUNT + 1),)), "range"),
        (a_beat(links=(LinkFigures(SIGNERS[0].peer_id, 1, 1),) * 2), "size"),
        (a_beat(links=(LinkFigures(SIGNERS[0].peer_id, 1, 1),) * (MAX_LINKS + 1)), "size"),
        (a_beat(doubts=(SIGNERS[0].peer_id,) * (MAX_DOUBTS + 1)), "size"),
        (a_member(addresses=("/a",) * (codec.MAX_ADDRESSES + 1)), "size"),
        (a_member(addresses=("x" * (codec.MAX_ADDRESS_CHARS + 1),)), "malformed"),
        (a_member(agent="x" * 65), "malformed"),
        (a_commit(roster=(SIGNERS[0].peer_id,) * (codec.MAX_PEERS + 1)), "size"),
        (a_commit(roster=("nobody",)), "peer-id"),
        (a_commit(weight=fields.MAX_COUNT + 1), "range"),
        (a_commit(announces=(codec.sign_message(SIGNERS[0], a_beat()),)), "kind"),
        (a_commit(admissions=(codec.sign_message(SIGNERS[0], an_announce()),)), "kind"),
        (a_commit(orders=(codec.sign_message(SIGNERS[0], a_beat()),)), "kind"),
        (a_commit(orders=(AN_ORDER,) * (codec.MAX_ORDERS + 1)), "size"),
        (an_order(SetOuterLr(-0.1)), "range"),
        (an_order(SetOuterLr(MAX_OUTER_LR + 0.1)), "range"),
        (an_order(SetOuterLr(math.nan)), "non-finite"),
        (an_order(ReadmitPeer("nobody")), "peer-id"),
        (an_order(RemovePeer("nobody", "")), "peer-id"),
        (an_order(RemovePeer(SIGNERS[0].peer_id, "x" * 201)), "malformed"),
        (an_order(RemovePeer(SIGNERS[0].peer_id, "a\nb")), "malformed"),
        (an_order(None), "malformed"),
        (an_order(RevokeInvite(bytes(15), "")), "nonce"),
        (an_order(RevokeInvite(bytes(16), "a\nb")), "malformed"),
        (an_order(AllowPeer("nobody")), "peer-id"),
        (Invite(RUN, 1, bytes(15)), "nonce"),
        (Invite(RUN, 1, bytes(16), codec.MAX_INVITE_USES + 1), "range"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(message, reason):
    assert refused(message) == reason


def test_a_commit_with_a_forged_order_is_refused():
    forged = replace(AN_ORDER, envelope=replace(AN_ORDER.envelope, signer=SIGNERS[1].peer_id))
    assert refused(a_commit(orders=(forged,))) == "signature"


def a_finding(**changes) -> Finding:
    usual = Finding(RUN, CommitHash("01" * 32), SIGNERS[1].peer_id, -0.5)
    return replace(usual, **changes)


@pytest.mark.parametrize("gain", [0.0, 0.5, math.nan, -math.inf])
def test_a_finding_without_harm_is_refused(gain):
    assert refused(a_finding(gain=gain)) in ("range", "non-finite")


def test_a_commit_with_something_else_than_findings_is_refused():
    beat = codec.sign_message(SIGNERS[0], a_beat())
    assert refused(a_commit(findings=(beat,))) == "kind"
    real = codec.sign_message(SIGNERS[0], a_finding())
    forged = replace(real, envelope=replace(real.envelope, signer=SIGNERS[1].peer_id))
    assert refused(a_commit(findings=(forged,))) == "signature"
    assert refused(a_commit(findings=(real,) * (codec.MAX_FINDINGS + 1))) == "size"


def test_judgements_are_bounded():
    peer = SIGNERS[0].peer_id
    for judgement, reason in (
        (Judgement(peer, FULL, "norm"), "range"),
        (Judgement(peer, 0, ""), "range"),
        (Judgement(peer, 0, "n" * (codec.MAX_NAME_CHARS + 1)), "malformed"),
        (Judgement(peer, 0, "two\nlines"), "malformed"),
    ):
        assert refused(a_commit(judgements=(judgement,))) == reason
    many = (Judgement(peer, 0, "norm"),) * (codec.MAX_PEERS + 1)
    assert refused(a_commit(judgements=many)) == "size"


def test_a_commit_with_a_forged_announcement_is_refused():
    real = codec.sign_message(SIGNERS[0], an_announce())
    forged = replace(real, envelope=replace(real.envelope, signer=SIGNERS[1].peer_id))
    assert refused(a_commit(announces=(forged,))) == "signature"


def test_envelopes_of_unknown_kind_or_signature_length_are_refused():
    envelope = codec.envelope_to_pb(codec.sign_message(SIGNERS[0], a_beat()).envelope)
    for change, reason in (({"kind": 0}, "kind"), ({"signature": bytes(63)}, "signature")):
        wire = pb.Envelope()
        wire.CopyFrom(envelope)
        for name, value in change.items():
            setattr(wire, name, value)
        with pytest.raises(ProtocolError) as caught:
            codec.envelope_from_pb(wire)
        assert caught.value.reason == reason


def test_a_manifest_s_envelope_is_not_a_message():
    with pytest.raises(ProtocolError) as caught:
        codec.open_envelope(SIGNERS[0].sign(Kind.MANIFEST, b"{}"))
    assert caught.value.reason == "kind"


def test_openers_insist_on_their_kind():
    beat = codec.sign_message(SIGNERS[0], a_beat()).envelope
    commit = codec.sign_message(SIGNERS[0], a_commit()).envelope
    member = codec.sign_message(SIGNERS[0], a_member()).envelope
    assert codec.open_commit(commit).message == a_commit()
    assert codec.open_member(member).message == a_member()
    for opener in (codec.open_commit, codec.open_member):
        with pytest.raises(ProtocolError) as caught:
            opener(beat)
        assert caught.value.reason == "kind"


def test_a_heartbeat_that_names_as_many_peers_as_it_may_is_not_too_large():
    far = LinkFigures(SIGNERS[0].peer_id, fields.MAX_COUNT, fields.MAX_COUNT)
    beat = a_beat(links=(far,) * MAX_LINKS, doubts=(SIGNERS[0].peer_id,) * MAX_DOUBTS)
    _, body = codec.encode(beat)
    assert len(body) < codec.MAX_BODY_BYTES[Kind.HEARTBEAT]
