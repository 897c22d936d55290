"""The page as an ASGI application: routes, and what an error looks like."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from skerry.node.page.desk import Desk
from skerry.node.page.guard import AUTHORIZED, Guard, Policy, Refusal, problem_response
from skerry.node.page.metrics import CONTENT_TYPE, Metrics
from skerry.node.page.models import (
    DoneAnswer,
    HealthAnswer,
    LogAnswer,
    PeersAnswer,
    PlanAnswer,
    Problem,
    ReachableAnswer,
    RoundsAnswer,
    RunAnswer,
    TimelineAnswer,
)
from skerry.node.page.owner_routes import address_of, ordering
from skerry.node.page.reach import Reach
from skerry.node.page.stream import MAX_READERS, Streams
from skerry.protocol.errors import SkerryError
from skerry.protocol.ids import PeerId

STATIC = Path(__file__).parent / "static"
_MAX_ID = 2**53 - 1
"""Largest whole number that a browser keeps exact."""
_SLOW_DOWN = {"detail": "Close a page that you do not look at.", "title": "too many readers"}

Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=0, le=_MAX_ID)]
After = Annotated[int | None, Query(ge=0, le=_MAX_ID)]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem},
    "5XX": {"model": Problem},
}


class EventStream(StreamingResponse):
    """text/event-stream."""

    media_type = "text/event-stream"


def build(desk: Desk, streams: Streams, policy: Policy) -> ASGIApp:
    """Return the whole application, guarded."""
    app = FastAPI(
        title="skerry status page",
        description="What a node knows of its run. See docs/api.md.",
        version="1",
        docs_url=None,
        redoc_url=None,
        responses=_PROBLEMS,
    )
    app.include_router(_reading(desk), prefix="/api/v1")
    app.include_router(_watching(desk, streams), prefix="/api/v1")
    app.include_router(_writing(desk), prefix="/api/v1")
    app.include_router(ordering(desk), prefix="/api/v1")
    app.include_router(_outside(desk))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(SkerryError, _on_coded)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_fault)
    return Guard(app, policy)


def _reading(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/run")
    async def run(request: Request) -> RunAnswer:
        """The run in one look; its ``run`` is null while the daemon takes part in none."""
        return desk.run_answer(may_join=_authorized(request))

    @router.get("/peers")
    async def peers() -> PeersAnswer:
        """The peers of the run."""
        return await desk.peers_answer()

    @router.get("/rounds")
    async def rounds(before: Before = None, limit: Limit = 100) -> RoundsAnswer:
        """Rounds, oldest first: the newest ``limit`` of those below ``before``."""
        return await desk.rounds_answer(before, limit)

    @router.get("/timeline")
    async def timeline(limit: Limit = 100) -> TimelineAnswer:
        """Failures and recoveries, oldest first."""
        return await desk.timeline_answer(limit)

    @router.get("/log")
    async def log(before: Before = None, limit: Limit = 100) -> LogAnswer:
        """Lines of the event log, oldest first: the newest ``limit`` below id ``before``."""
        return await desk.log_answer(before, limit)

    @router.get("/plan")
    async def plan() -> PlanAnswer:
        """Which peers host what."""
        return desk.plan_answer()

    return router


def _watching(desk: Desk, streams: Streams) -> APIRouter:
    router = APIRouter(tags=["live"])
    reach = Reach()

    @router.get("/events", response_class=EventStream)
    async def events(
        request: Request,
        after: After = None,
        last_event_id: Annotated[str | None, Header(max_length=32)] = None,
    ) -> EventStream:
        """What changes, as server-sent events; resumes behind ``Last-Event-ID`` or ``after``."""
        if streams.readers >= MAX_READERS:
            raise Refusal(503, **_SLOW_DOWN)
        start = _number(last_event_id) if last_event_id else after
        pieces: AsyncIterator[str] = streams.read(start, _authorized(request))
        return EventStream(pieces)

    @router.get("/reachable/{peer}")
    async def reachable(peer: str) -> ReachableAnswer:
        """Dial a peer of the run now."""
        session = desk.daemon.part.session
        if session is None:
            raise Refusal(404, "the daemon takes part in no run", "Join one with skerry join.")
        name = PeerId(peer)
        return await reach.answer(session, name, desk.link_to(name))

    return router


def _writing(desk: Desk) -> APIRouter:
    """Routes that change something; the guard lets none through without the page token."""
    router = APIRouter(tags=["changes"])

    @router.post("/pause")
    async def pause(request: Request) -> DoneAnswer:
        """Stop training on this node, but go on following the run; kept over restarts."""
        return await desk.pause(True, address_of(request))

    @router.post("/resume")
    async def resume(request: Request) -> DoneAnswer:
        """Train again."""
        return await desk.pause(False, address_of(request))

    return router


def _outside(desk: Desk) -> APIRouter:
    """What is asked by machines that watch this one, and the page itself."""
    router = APIRouter()
    metrics = Metrics(desk)

    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @router.get("/healthz", responses={503: {"model": HealthAnswer}})
    async def healthz(response: Response) -> HealthAnswer:
        """Whether the node does its work: 200, or 503 with the reason."""
        answer = desk.health_answer()
        response.status_code = 200 if answer.healthy else 503
        return answer

    @router.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Metrics in the text format of Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


def _authorized(request: Request) -> bool:
    return bool(getattr(request.state, AUTHORIZED, False))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_ID:
        raise Refusal(422, "Last-Event-ID is not an id of this log", "Leave it out.")
    return int(text)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem_response(error.problem)


async def _on_coded(request: Request, error: Exception) -> Response:
    assert isinstance(error, SkerryError)
    status = 403 if error.code == "SK-OWN-001" else 409
    return problem_response(Problem(status=status, title=str(error), detail=error.fix))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    detail = "See /openapi.json for what is allowed."
    return problem_response(Problem(status=422, title=f"{where}: {first['msg']}", detail=detail))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = "See /openapi.json for what there is."
    problem = Problem(status=error.status_code, title=str(error.detail), detail=detail)
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response


async def _on_fault(request: Request, error: Exception) -> Response:
    detail = "It is in the daemon's log; the run is not affected."
    return problem_response(Problem(status=500, title="a fault inside the page", detail=detail))
