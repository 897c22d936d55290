"""Whatever is asked within the schema or beside it: an answer of the schema, never a fault."""

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import page_world
import pytest
import schemathesis
from hypothesis import given, settings

from skerry.node.config import PageSection
from skerry.node.page.server import PageServer

EXAMPLES = 6


@pytest.fixture(scope="module")
def url(trained, tmp_path_factory):
    """A page over a real run, served over a socket by a thread of its own."""
    folder = tmp_path_factory.mktemp("page")
    loop = asyncio.new_event_loop()
    ready: Future[str] = Future()
    over = asyncio.Event()

    async def serve() -> None:
        async with page_world.page_world(trained, folder) as page:
            server = await PageServer.start(page.daemon, page.home, PageSection(port=0))
            ready.set_result(server.url)
            await over.wait()
            await server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    yield ready.result(timeout=page_world.PATIENCE_S)
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def operations(url) -> dict[str, Any]:
    """Everything that can be asked, by name; a stream that never ends is asked elsewhere."""
    schema = schemathesis.openapi.from_url(f"{url}openapi.json").exclude(path="/api/v1/events")
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


READS = ("run", "peers", "rounds", "timeline", "log", "plan", "reachable/{peer}")


@pytest.mark.parametrize(
    "label",
    [
        *(f"GET /api/v1/{name}" for name in READS),
        "POST /api/v1/pause",
        "POST /api/v1/resume",
        "POST /api/v1/outer-lr",
        "POST /api/v1/peers/{peer}/remove",
        "POST /api/v1/peers/{peer}/readmit",
        "GET /healthz",
        "GET /metrics",
    ],
)
def test_answers_are_those_of_the_schema(operations, url, label) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True)
    @given(operations[label].as_strategy())
    def ask(case) -> None:
        case.call_and_validate(base_url=url.rstrip("/"))

    ask()


@pytest.mark.parametrize("name", ["rounds", "timeline", "log"])
def test_what_the_schema_forbids_is_no_fault(operations, url, name) -> None:
    forbidden = operations[f"GET /api/v1/{name}"].as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True)
    @given(forbidden)
    def ask(case) -> None:
        answer = case.call(base_url=url.rstrip("/"))
        assert answer.status_code in (200, 404, 422), (case.query, answer.text)

    ask()
