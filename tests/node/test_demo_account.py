"""What event logs of several peers say together."""

from typing import Any

from skerry.node.demo_account import Account, counted_text_tokens, mean_loss


def one(peer: str, loss: float, text_tokens: int = 10) -> dict[str, Any]:
    return {"peer": peer, "loss": loss, "text_tokens": text_tokens, "bytes": 1}


def commit(number: int, text_tokens: int, *included: dict[str, Any], **changes: Any) -> Any:
    event = {
        "event": "committed",
        "time": 100.0 + number,
        "round": number,
        "commit": f"c{number}",
        "parent": f"c{number - 1}",
        "included": list(included),
        "text_tokens": text_tokens,
    }
    return event | changes


def announced(number: int, peer: str, loss: float) -> dict[str, Any]:
    return {"event": "announced", "time": 0.0, "round": number, **one(peer, loss)}


def trained(time: float, steps: int) -> dict[str, Any]:
    return {"event": "trained", "time": time, "round": 1, "steps": steps}


def account() -> Account:
    """Two readers and a body; the replica is left out of round 2, and what it had goes into 3."""
    found = Account()
    everyone = ("replica", "origin", "body")
    rounds = [
        commit(1, 20, one("replica", 3.0), one("origin", 2.0), one("body", 0.0)),
        commit(2, 10, one("origin", 1.9), one("body", 0.0)),
        commit(3, 30, one("replica", 2.7), one("origin", 1.8), one("body", 0.0)),
    ]
    for peer in everyone:
        found.read(peer, [trained(float(number), steps=2) for number in range(3)])
        found.read(peer, [announced(2, "replica", 2.8), announced(2, "body", 0.0), *rounds])
    return found


def test_nothing_is_lost_and_nothing_counts_twice() -> None:
    found = account()
    chain = found.chain("c3")
    assert [c["commit"] for c in chain] == ["c1", "c2", "c3"]
    assert counted_text_tokens(chain) == found.contributed_text_tokens(chain) == 60
    assert found.trained_text_tokens(5) == 60, "the body reads none"


def test_what_came_too_late_for_the_last_commit_need_not_be_counted() -> None:
    found = account()
    found.read("origin", [announced(4, "origin", 1.7)])
    chain = found.chain("c3")
    assert found.contributed_text_tokens(chain) == 60


def test_what_was_trained_in_two_parts_counts_together_and_the_same_line_once() -> None:
    found = account()
    for _ in range(2):
        found.read("replica", [trained(9.0, steps=1), trained(9.5, steps=1)])
    assert found.trained_text_tokens(5) == 70


def test_a_commit_is_as_old_as_the_first_peer_says_and_its_loss_is_that_of_readers() -> None:
    found = account()
    found.read("late", [commit(1, 20, time=900.0)])
    found.read("early", [commit(1, 20, time=50.0)])
    first = found.chain("c3")[0]
    assert first["time"] == 50.0
    assert mean_loss(first) == 2.5
    assert mean_loss(commit(4, 0, one("body", 0.0))) == 0.0
