"""Who may ask the page for what; stands before every request, whatever route it is for.

A page on loopback can be reached by any web page that the user opens: by name rebinding, by
forms, by images. So the Host must be an address or a name that nobody else controls, an Origin
must be the page's own, and whatever changes something needs the page token besides. On any
other address everything needs the token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skerry.node.page import pass_key
from skerry.node.page.models import Problem

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
AUTHORIZED = "authorized"
"""Key in the request's state: whether it carried the page token."""
_READS = frozenset({"GET", "HEAD"})
_SAFE_SITES = frozenset({"same-origin", "none"})
_COOKIE_SECONDS = 30 * 86400
_MAX_COOKIE_BYTES = 4096
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed."""

    token: str
    """The page token."""
    loopback: bool
    """Whether the page listens on this machine alone."""
    require_token: bool
    """Whether reading needs the token too."""
    names: frozenset[str] = frozenset()
    """Further names under which the page may be asked for."""
    cookie: str = "skerry_page"
    """Name of the cookie; cookies of one host are shared by all its ports."""


class Refusal(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        """Say why, and what to do about it."""
        super().__init__(title)
        self.problem = Problem(status=status, title=title, detail=detail)


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        """Let through to ``app`` what ``policy`` allows."""
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            return  # neither lifespan nor websockets are served
        headers = {key.decode("latin-1"): v.decode("latin-1") for key, v in scope["headers"]}
        try:
            response = self._admit(scope, headers)
        except Refusal as refusal:
            response = problem_response(refusal.problem)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                extra.append((b"date", formatdate(usegmt=True).encode()))
                if not scope["path"].startswith("/static/"):
                    extra.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await (response or self._app)(scope, receive, send_safely)

    def _admit(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """Return an answer of our own, or None to go on. Raises: Refusal."""
        policy = self._policy
        check_host(headers.get("host", ""), policy)
        _check_origin(headers, scope["path"])
        signing_in = self._sign_in(scope)
        if signing_in is not None:
            return signing_in
        bearer, cookie = _bearer(headers, policy), _cookie(headers, policy)
        write = scope["method"] not in _READS
        open_to_all = policy.loopback and not policy.require_token
        if not (bearer or cookie) and (write or not open_to_all):
            detail = "Open the link that skerry page prints, on the machine of the daemon."
            raise Refusal(401, "the page token is missing or wrong", detail)
        if write and not bearer and "origin" not in headers:
            detail = "A browser sends one; a program sends the token as Authorization: Bearer."
            raise Refusal(403, "a write without an origin", detail)
        scope.setdefault("state", {})[AUTHORIZED] = bearer or cookie
        return None

    def _sign_in(self, scope: Scope) -> Response | None:
        """Turn the link with the token into a cookie, so that it leaves the address bar."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if not given:
            return None
        if not pass_key.same(given[0], self._policy.token):
            detail = "Open the link that skerry page prints, on the machine of the daemon."
            raise Refusal(401, "the page token is wrong", detail)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            self._policy.cookie,
            self._policy.token,
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
        )
        return response


def problem_response(problem: Problem) -> Response:
    """Return an error as every route gives it."""
    return JSONResponse(problem.model_dump(), status_code=problem.status)


def check_host(host: str, policy: Policy) -> None:
    """Refuse names that someone else's name server may point here. Raises: Refusal.

    An address in the Host header was typed or linked as such; a name can be rebound.
    """
    name = _host_name(host)
    if name in LOCAL_NAMES or name in policy.names:
        return
    if not policy.loopback and _is_address(name):
        return
    detail = "Use the address that skerry status prints, or add the name to page.names."
    raise Refusal(421, f"the page is not served under {name[:80]!r}", detail)


def _check_origin(headers: Mapping[str, str], path: str) -> None:
    """Refuse what another web site had the browser ask. Raises: Refusal."""
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "none")
    host = headers.get("host", "")  # https: a proxy may stand before us
    ours = origin is None or origin in (f"http://{host}", f"https://{host}")
    # Following a link from another site to the page itself is harmless, reading it from one not.
    visits = path == "/" and headers.get("sec-fetch-mode") == "navigate"
    if not ours or (site not in _SAFE_SITES and not visits):
        detail = "Open the page itself; other sites may not ask it."
        raise Refusal(403, "asked by another web site", detail)


def _bearer(headers: Mapping[str, str], policy: Policy) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and pass_key.same(given.strip(), policy.token)


def _cookie(headers: Mapping[str, str], policy: Policy) -> bool:
    text = headers.get("cookie", "")
    if len(text) > _MAX_COOKIE_BYTES:
        return False
    try:
        morsel = SimpleCookie(text).get(policy.cookie)
    except CookieError:
        return False
    return morsel is not None and pass_key.same(morsel.value, policy.token)


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        return not ip_address(name).is_unspecified
    except ValueError:
        return False
