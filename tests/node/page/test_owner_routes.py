"""Orders given through the page: only with the token, only by an owner's node, and written down."""

import asyncio
from dataclasses import replace

import ordered_chain
import page_world
import pytest
import run_world

from skerry.protocol.messages import ReadmitPeer, RemovePeer, SetOuterLr

BEARER = {"authorization": f"Bearer {page_world.TOKEN}"}
OTHER = run_world.signer_of(2).peer_id


@pytest.fixture(autouse=True)
async def deciding(page):
    """The run is not over, and events are taken as a session takes them."""
    rounds = page.context.state.rounds
    rounds.rules = replace(rounds.rules, rounds=0)
    rounds.chain._rules = replace(rounds.rules.chain, rounds=0)
    task = asyncio.create_task(page.daemon.part.member.decide())
    yield
    task.cancel()
    await asyncio.wait([task])


def orders(page) -> list:
    known = page.context.state.rounds.orders.get(page.context.me, {})
    return [known[number].message.change for number in sorted(known)]


async def test_owner_changes_the_run_and_it_is_written_down(page) -> None:
    async with page.client(**BEARER) as client:
        first = await client.post("/api/v1/outer-lr", json={"value": 0.7})
        second = await client.post(f"/api/v1/peers/{OTHER}/remove", json={"reason": "too slow"})
        third = await client.post("/api/v1/outer-lr", json={"value": None})
    answers = [answer.json() for answer in (first, second, third)]
    assert [(a["sequence"], a["peer"]) for a in answers] == [(1, None), (2, OTHER), (3, None)]
    assert orders(page) == [SetOuterLr(0.7), RemovePeer(OTHER, "too slow"), SetOuterLr(None)]
    lines = page.daemon.part.member.lines("order")
    assert [line["change"] for line in lines] == ["outer-lr", "remove", "outer-lr"]
    assert {(line["via"], line["address"]) for line in lines} == {("page", "127.0.0.1")}
    asked = page.daemon.part.member.lines("page-asked")
    assert [line["action"] for line in asked] == ["outer_lr", "remove", "outer_lr"]


async def test_who_was_removed_is_shown_and_can_be_let_in_again(page) -> None:
    rounds = page.context.state.rounds
    settings = rounds.settings
    removed = {OTHER: ordered_chain.removal("too slow")}
    rounds.chain._settings[rounds.at] = replace(settings, removed=removed, outer_lr=0.5)
    async with page.client(**BEARER) as client:
        peers = (await client.get("/api/v1/peers")).json()["peers"]
        [row] = [peer for peer in peers if peer["peer"] == OTHER]
        assert (row["state"], row["role"], row["removed_reason"]) == (
            "removed",
            "replica" if row["in_roster"] else "member",
            "too slow",
        )
        run = (await client.get("/api/v1/run")).json()["run"]
        assert (run["outer_lr"], run["outer_lr_ordered"], run["may_order"]) == (0.5, True, True)
        assert (await client.post(f"/api/v1/peers/{OTHER}/readmit")).status_code == 200
    assert orders(page) == [ReadmitPeer(OTHER)]


async def test_nobody_orders_without_the_token(page) -> None:
    async with page.client() as client:
        for path in ("outer-lr", f"peers/{OTHER}/remove", f"peers/{OTHER}/readmit"):
            assert (await client.post(f"/api/v1/{path}", json={})).status_code == 401
        assert (await client.get("/api/v1/run")).json()["run"]["may_order"] is False
    assert orders(page) == [] and page.daemon.part.member.lines("page-asked") == []


async def test_another_site_cannot_order_with_the_cookie(page) -> None:
    headers = {"cookie": f"skerry_page={page_world.TOKEN}", "origin": "http://evil.example"}
    async with page.client(**headers) as client:
        answer = await client.post("/api/v1/outer-lr", json={"value": 0.1})
    assert answer.status_code == 403 and orders(page) == []


async def test_node_without_an_owner_key_says_so(page) -> None:
    stranger = page.context.manifest.model_copy(update={"owner": OTHER})
    page.context.manifest = stranger
    async with page.client(**BEARER) as client:
        answer = await client.post("/api/v1/outer-lr", json={"value": 0.7})
        run = (await client.get("/api/v1/run")).json()["run"]
    assert answer.status_code == 403
    assert answer.json()["title"].startswith("SK-OWN-001: ")
    assert run["may_order"] is False and orders(page) == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("outer-lr", {"value": 0}, 422),
        ("outer-lr", {"value": 10.1}, 422),
        ("outer-lr", {}, 422),
        ("outer-lr", {"value": 1, "more": 1}, 422),
        (f"peers/{OTHER}/remove", {"reason": "x" * 201}, 422),
        (f"peers/{OTHER}/remove", {"reason": "a\nb"}, 409),
        (f"peers/{OTHER}/readmit", {}, 409),
        ("peers/nobody/remove", {"reason": ""}, 409),
        (f"peers/{run_world.OWNER.peer_id}/remove", {"reason": ""}, 409),
    ],
)
async def test_what_makes_no_sense_is_refused(page, path, body, status) -> None:
    async with page.client(**BEARER) as client:
        answer = await client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"status", "title", "detail"} and orders(page) == []
