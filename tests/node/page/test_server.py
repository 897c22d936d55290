"""The server in the node's loop: its port, its end, and that it takes nobody down with it."""

import asyncio
import json
import socket
import stat
import time
from email.utils import parsedate_to_datetime

import httpx
import page_world
import pytest

from skerry.node.config import PageSection
from skerry.node.home import Home
from skerry.node.page.server import PageServer
from skerry.node.run.journal import Journal


@pytest.fixture
async def start(tmp_path):
    """Serve pages of daemons without a run; all are closed again."""
    servers = []

    async def begin(name: str = "a", **config: object) -> tuple[PageServer, Home, Journal]:
        home = Home(tmp_path / name)
        home.create()
        journal = Journal(home.events_file)
        daemon = page_world.PageDaemon(None, journal, "12D3KooWme")
        settings = PageSection(**{"port": 0, **config})
        servers.append(await PageServer.start(daemon, home, settings))
        return servers[-1], home, journal

    yield begin
    for server in servers:
        await server.close()


def events(journal: Journal, event: str) -> list[str]:
    lines = [json.loads(line) for line in journal.last(100)]
    return [line["text"] for line in lines if line["event"] == event]


async def get(base: str, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        return await client.get(path, headers=headers)


async def test_page_answers_where_it_says(start) -> None:
    server, _, journal = await start()
    answer = await get(server.url, "/api/v1/run")
    assert answer.json()["node"]["page_url"] == server.url
    assert events(journal, "note") == [f"the status page is at {server.url}"]


async def test_answers_are_dated_once(start) -> None:
    server, _, _ = await start()
    before = int(time.time())
    for path in ("/healthz", "/static/style.css", "/no-such-path"):
        (date,) = (await get(server.url, path)).headers.get_list("date")
        assert before <= parsedate_to_datetime(date).timestamp() <= time.time()


async def test_port_in_use_gives_way_to_the_next_with_a_note(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server, _, journal = await start(port=port)
    assert server.url != f"http://127.0.0.1:{port}/"
    assert f"since port {port} is in use" in events(journal, "note")[0]
    assert (await get(server.url, "/healthz")).status_code == 200


async def test_two_daemons_get_a_port_each(start) -> None:
    first, _, _ = await start("a")
    port = int(first.url.rsplit(":", 1)[1].strip("/"))
    second, _, _ = await start("b", port=port)
    assert first.url != second.url
    for server in (first, second):
        assert (await get(server.url, "/healthz")).status_code == 200


async def test_daemon_without_a_page_serves_none(start) -> None:
    server, home, journal = await start(enabled=False)
    assert server.url == ""
    assert not home.page_token_file.exists()
    assert journal.last(10) == []


async def test_address_that_is_not_ours_is_told_and_ends_nothing(start) -> None:
    server, _, journal = await start(host="192.0.2.1")
    assert server.url == ""
    assert "there is no status page" in events(journal, "warning")[0]


async def test_token_that_others_can_read_is_told_and_ends_nothing(start, tmp_path) -> None:
    home = Home(tmp_path / "a")
    home.create()
    home.page_token_file.write_text("x" * 40)
    home.page_token_file.chmod(0o644)
    server, _, journal = await start()
    assert server.url == ""
    assert "SK-KEY-002" in events(journal, "warning")[0]


async def test_token_is_made_once_for_the_user_alone(start) -> None:
    server, home, _ = await start(require_token=True)
    token = home.page_token_file.read_text().strip()
    assert stat.S_IMODE(home.page_token_file.stat().st_mode) == 0o600
    assert (await get(server.url, "/healthz")).status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    assert (await get(server.url, "/healthz", **headers)).status_code == 200
    again, _, _ = await start(require_token=True)
    assert (await get(again.url, "/healthz", **headers)).status_code == 200


async def test_page_for_other_machines_asks_for_the_token(start) -> None:
    server, home, _ = await start(host="0.0.0.0")
    port = server.url.rsplit(":", 1)[1]
    assert (await get(f"http://127.0.0.1:{port}", "/api/v1/run")).status_code == 401
    token = home.page_token_file.read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    answer = await get(f"http://127.0.0.1:{port}", "/api/v1/run", **headers)
    assert answer.status_code == 200


async def test_stream_over_a_socket_ends_with_the_server(start) -> None:
    server, _, _ = await start()
    async with (
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
        client.stream("GET", "/api/v1/events") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        texts = answer.aiter_text()
        assert page_world.pieces(await anext(texts))[0]["event"] == "run"
        closing = asyncio.create_task(server.close())
        async with asyncio.timeout(page_world.PATIENCE_S):
            async for _ in texts:
                pass
            await closing


async def test_history_that_breaks_is_told_and_tried_again(start, monkeypatch) -> None:
    attempts = asyncio.Semaphore(0)

    async def keep(self) -> None:
        attempts.release()
        raise RuntimeError("broken")

    monkeypatch.setattr("skerry.node.page.desk.Desk.keep", keep)
    monkeypatch.setattr("skerry.node.page.server._RETRY_SECONDS", 0.0)
    server, _, journal = await start()
    async with asyncio.timeout(page_world.PATIENCE_S):
        await attempts.acquire()
        await attempts.acquire()
    assert "the history has failed" in events(journal, "warning")[0]
    assert (await get(server.url, "/healthz")).status_code == 200
