"""Any event and any action, drawn field by field from their types."""

import dataclasses
import types
import typing
from enum import Enum
from functools import lru_cache

import run_world
from hypothesis import strategies as st

from skerry.protocol.codec import sign_message
from skerry.protocol.ids import Address, CommitHash, RunId
from skerry.protocol.messages import (
    Announce,
    Commit,
    Envelope,
    Finding,
    Heartbeat,
    Judgement,
    Kind,
    MemberRecord,
    Order,
    ReadmitPeer,
    RemovePeer,
    SetOuterLr,
    ShardPayload,
    ShardState,
    Signed,
)

RUN = RunId("ab" * 32)
SIGNERS = [run_world.signer_of(number) for number in (1, 2, 3)]


@lru_cache
def signed(kind: type) -> list[Signed]:
    """Some messages of a kind that are properly signed, as all are that come in."""
    return [sign_message(signer, message) for signer in SIGNERS for message in _messages(kind)]


def _messages(kind: type) -> list:
    parent = CommitHash("1" * 64)
    state = (ShardState("embed", Address("2" * 64)),)
    payload = ShardPayload("embed", Address("3" * 64), 17)
    announce = Announce(RUN, 3, parent, state, 64, 32, 1.5, (payload,))
    member = MemberRecord(RUN, ("/ip4/10.0.0.1/tcp/1",), None, 2**33, "test")
    match kind:
        case _ if kind is Announce:
            return [announce, dataclasses.replace(announce, shards=(), loss=0.25)]
        case _ if kind is MemberRecord:
            return [member, dataclasses.replace(member, addresses=())]
        case _ if kind is Heartbeat:
            return [Heartbeat(RUN, parent, 2, 64, "training", 1, 30, 12.5, 3.25)]
        case _ if kind is Finding:
            return [Finding(RUN, parent, SIGNERS[2].peer_id, -0.125)]
        case _ if kind is Order:
            about = SIGNERS[2].peer_id
            changes = (RemovePeer(about, "slow"), ReadmitPeer(about), SetOuterLr(0.7))
            found = [Order(RUN, number, change) for number, change in enumerate(changes, 1)]
            return [*found, Order(RUN, 4, SetOuterLr(None))]
        case _ if kind is Commit:
            owner, other = sorted(SIGNERS[:2], key=lambda signer: signer.peer_id)
            roster = (owner.peer_id, other.peer_id)
            first = Commit(
                RUN, 0, 0, parent, state, (), roster, (sign_message(other, member),), 0, 0
            )
            included = (sign_message(owner, announce),)
            orders = tuple(sign_message(owner, order) for order in _messages(Order))
            second = dataclasses.replace(first, round=1, announces=included, weight=64)
            judged = (Judgement(SIGNERS[2].peer_id, 250, "newcomer"),)
            found = tuple(sign_message(owner, finding) for finding in _messages(Finding))
            third = dataclasses.replace(second, orders=orders, judgements=judged, findings=found)
            return [first, second, third]
    raise AssertionError(kind)


def any_of(kind) -> st.SearchStrategy:
    """Draw a value of an annotated type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Signed:
        return st.sampled_from(signed(arguments[0]))
    if origin in (types.UnionType, typing.Union):
        return st.one_of([any_of(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(any_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(any_of, arguments))
    if origin is frozenset:
        return st.frozensets(any_of(arguments[0]), max_size=3)
    if kind is Envelope:
        return st.builds(
            Envelope, st.sampled_from(Kind), st.binary(max_size=9), st.text(), st.binary(max_size=9)
        )
    if kind in (Announce, Commit, Finding):
        return st.sampled_from([item.message for item in signed(kind)])
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{f.name: any_of(hints[f.name]) for f in dataclasses.fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    plain = getattr(kind, "__supertype__", kind)
    return _PLAIN[plain]


_PLAIN = {
    str: st.text(max_size=70),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
}
