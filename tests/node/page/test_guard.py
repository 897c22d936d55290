"""Who may ask: hosts, origins, the token, and the headers that keep a browser careful."""

import httpx
import page_world
import pytest
from page_world import TOKEN, policy
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from skerry.node.page.guard import AUTHORIZED, Guard

BEARER = {"Authorization": f"Bearer {TOKEN}"}
LAN = "http://192.0.2.7:8787"


async def told(request):
    return PlainTextResponse("yes" if request.state._state.get(AUTHORIZED) else "no")


INSIDE = Starlette(routes=[Route("/{path:path}", told, methods=["GET", "POST"])])


def client(base: str = page_world.BASE, **changes: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=Guard(INSIDE, policy(**changes)))
    return httpx.AsyncClient(transport=transport, base_url=base)


class TestHost:
    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1:8787", "localhost:9000", "[::1]:8787", "LOCALHOST", "localhost.:1"],
    )
    async def test_names_of_this_machine_are_served(self, host) -> None:
        async with client() as c:
            assert (await c.get("/x", headers={"Host": host})).status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "127.0.0.1.evil.example",
            "evil.example:8787",
            "0.0.0.0:8787",
            "192.0.2.7",
            "127.0.0.1@evil.example",
            "[::1",
            "",
            "localhost evil.example",
        ],
    )
    async def test_names_that_others_control_are_refused(self, host) -> None:
        async with client() as c:
            assert (await c.get("/x", headers={"Host": host, **BEARER})).status_code == 421

    async def test_further_names_are_those_of_the_settings(self) -> None:
        async with client(names=frozenset({"page.example"})) as c:
            for host, status in (("page.example", 200), ("other.example", 421)):
                assert (await c.get("/x", headers={"Host": host})).status_code == status

    async def test_address_is_enough_where_others_can_reach_the_page(self) -> None:
        async with client(LAN, loopback=False) as c:
            assert (await c.get("/x", headers=BEARER)).status_code == 200
            rebound = {"Host": "evil.example", **BEARER}
            assert (await c.get("/x", headers=rebound)).status_code == 421


class TestOrigin:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:9999"},
            {"Origin": ""},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        ],
    )
    async def test_other_sites_are_refused_even_with_the_token(self, headers) -> None:
        async with client() as c:
            assert (await c.get("/api", headers={**headers, **BEARER})).status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Origin": page_world.BASE},
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        ],
    )
    async def test_the_page_itself_is_served(self, headers) -> None:
        async with client() as c:
            assert (await c.get("/api", headers=headers)).status_code == 200

    async def test_link_from_another_site_opens_the_page(self) -> None:
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        async with client() as c:
            assert (await c.get("/", headers=headers)).status_code == 200


class TestToken:
    async def test_reading_on_loopback_needs_none(self) -> None:
        async with client() as c:
            assert (await c.get("/x")).text == "no"
            assert (await c.get("/x", headers=BEARER)).text == "yes"

    @pytest.mark.parametrize("changes", [{"loopback": False}, {"require_token": True}])
    @pytest.mark.parametrize("path", ["/", "/x", "/static/x.js", "/healthz", "/metrics"])
    async def test_everything_else_needs_it(self, changes, path) -> None:
        base = LAN if "loopback" in changes else page_world.BASE
        async with client(base, **changes) as c:
            assert (await c.get(path)).status_code == 401
            assert (await c.get(path, headers=BEARER)).status_code == 200

    @pytest.mark.parametrize(
        "given",
        ["", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \u00e9"],
    )
    async def test_wrong_one_is_as_good_as_none(self, given) -> None:
        headers = {"Authorization": given.encode("latin-1")}
        async with client(require_token=True) as c:
            assert (await c.get("/x", headers=headers)).status_code == 401

    async def test_writing_needs_it_everywhere(self) -> None:
        async with client() as c:
            assert (await c.post("/x")).status_code == 401
            assert (await c.post("/x", headers=BEARER)).status_code == 200


class TestLink:
    async def test_link_becomes_a_cookie_and_leaves_the_address(self) -> None:
        async with client(require_token=True) as c:
            answer = await c.get(f"/?token={TOKEN}")
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            flags = answer.headers["set-cookie"].lower()
            assert "httponly" in flags and "samesite=strict" in flags
            assert (await c.get("/x")).text == "yes"

    async def test_wrong_link_sets_no_cookie(self) -> None:
        async with client() as c:
            answer = await c.get("/?token=wrong")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers

    async def test_cookie_writes_from_the_page_alone(self) -> None:
        async with client() as c:
            await c.get(f"/?token={TOKEN}")
            assert (await c.post("/x")).status_code == 403
            assert (
                await c.post("/x", headers={"Origin": "http://evil.example"})
            ).status_code == 403
            assert (await c.post("/x", headers={"Origin": page_world.BASE})).status_code == 200

    @pytest.mark.parametrize("cookie", ["skerry_page=wrong", "skerry_page", "=", "x" * 5000])
    async def test_wrong_cookie_is_as_good_as_none(self, cookie) -> None:
        async with client() as c:
            assert (await c.get("/x", headers={"Cookie": cookie})).text == "no"


async def test_every_answer_keeps_the_browser_careful() -> None:
    async with client() as c:
        for answer in (await c.get("/x"), await c.get("/x", headers={"Host": "evil.example"})):
            rules = answer.headers["content-security-policy"]
            assert "default-src 'none'" in rules and "script-src 'self'" in rules
            assert "unsafe" not in rules and "frame-ancestors 'none'" in rules
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"


async def test_websockets_are_not_served() -> None:
    sent = []

    async def send(message):
        sent.append(message)

    guard = Guard(INSIDE, policy())
    await guard({"type": "websocket", "path": "/", "headers": []}, None, send)
    assert sent == []


def test_policy_of_the_tests_is_that_of_a_loopback_page() -> None:
    assert policy().loopback and not policy().require_token
