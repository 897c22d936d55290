"""Orders of the run's owner on their way into a commit.

Whoever knows an order that the chain does not hold yet reminds the round's leader of it, so it
is enough that one peer has heard it. Whose commit takes it in does not matter: what it changes
follows from the chain alone (settings.py). An order on a branch that has lost is pending again.
"""

from collections.abc import Iterable

from skerry.protocol.codec import MAX_ORDERS
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import SignedCommit, SignedOrder
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.actions import Action
from skerry.protocol.rounds.settings import Settings, check_order, ordered
from skerry.protocol.rounds.state import RoundState

MAX_PENDING = 64
"""Orders of one issuer that may wait; more are refused until a commit has taken some in."""


def on_order(s: RoundState, order: SignedOrder, source: PeerId) -> list[Action]:
    """Take in an order that was given here or heard of, and pass it on if it is news."""
    try:
        check_order(order, s.rules.chain.keys)
    except ProtocolError as error:
        return [act.Refuse(source, error.reason)]
    known = s.orders.setdefault(order.signer, {})
    number = order.message.sequence
    done = s.settings.sequences.get(order.signer, 0)
    if number in known or number <= done:
        return []  # whoever sent it is only behind
    if number > done + MAX_PENDING:
        return [act.Refuse(source, "order-sequence")]
    known[number] = order
    if source == s.me:
        return _send([order], s.others)
    return [act.StoreOrders((order,)), *remind(s)]


def learn_orders(s: RoundState, commit: SignedCommit) -> None:
    """Keep a commit's orders: should its branch lose, they are pending again."""
    keep_orders(s, commit.message.orders)


def keep_orders(s: RoundState, orders: Iterable[SignedOrder]) -> None:
    """Take in orders that were checked before."""
    for order in orders:
        s.orders.setdefault(order.signer, {}).setdefault(order.message.sequence, order)


def next_sequence(s: RoundState, issuer: PeerId) -> int:
    """Return the number for an issuer's next order."""
    return max(s.orders.get(issuer, {}), default=0) + 1


def pending(s: RoundState) -> list[SignedOrder]:
    """Return the orders that the next commit can take in, the owner's first."""
    return _fitting(s, frozenset())[0]


def orders_for(
    s: RoundState, candidates: frozenset[PeerId]
) -> tuple[tuple[SignedOrder, ...], Settings]:
    """Return the orders of a commit whose roster comes from ``candidates``, and what they make.

    One that would leave nobody to train waits for a commit that takes somebody in.
    """
    found, settings = _fitting(s, candidates)
    return tuple(found), settings


def remind(s: RoundState) -> list[Action]:
    """Send what is pending to the leader, who may not have heard of it."""
    if s.finished or s.leader is None or s.leader == s.me:
        return []
    return _send(pending(s), (s.leader,))


def tell(s: RoundState, peer: PeerId) -> list[Action]:
    """Send what is pending to a peer that has just come."""
    return _send(pending(s), (peer,))


def _fitting(s: RoundState, candidates: frozenset[PeerId]) -> tuple[list[SignedOrder], Settings]:
    keys, settings = s.rules.chain.keys, s.settings
    found: list[SignedOrder] = []
    for issuer in sorted(s.orders, key=lambda peer: (peer != keys.owner, peer)):
        while len(found) < MAX_ORDERS:
            order = s.orders[issuer].get(settings.next_sequence(issuer))
            if order is None:
                break
            try:
                after = ordered(settings, (order,), keys)
            except ProtocolError:  # its issuer has lost its rights
                break
            if candidates and candidates <= after.removed.keys():
                break
            found.append(order)
            settings = after
    return found, settings


def _send(orders: Iterable[SignedOrder], peers: tuple[PeerId, ...]) -> list[Action]:
    if not peers:
        return []
    return [act.Broadcast(order.envelope, peers) for order in orders]
