"""How refusals and failures cross a gRPC call: a coded error there becomes a coded error here."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import grpc
import grpc.aio

from skerry.protocol.error_catalog import CATALOG
from skerry.protocol.errors import (
    PeerUnavailable,
    ProtocolError,
    SkerryError,
    StateError,
)
from skerry.protocol.ids import PeerId

REASON_KEY = "skerry-reason"
"""Trailing metadata that names a ProtocolError's reason."""

_MAX_DETAIL_CHARS = 500
_MAX_REASON_CHARS = 40
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INTERNAL,  # gRPC's word for a stream that broke in mid-message
}


async def refuse(context: Any, error: SkerryError) -> NoReturn:  # noqa: ANN401  # grpc is untyped
    """Answer the call that ``context`` (a grpc.aio.ServicerContext) serves with ``error``.

    A ProtocolError arrives at the caller as such, anything else as PeerUnavailable.
    """
    detail = str(error)[:_MAX_DETAIL_CHARS]
    if isinstance(error, ProtocolError):
        reason = ((REASON_KEY, error.reason),)
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, detail, reason)
    missing = isinstance(error, StateError)
    code = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.UNAVAILABLE
    await context.abort(code, detail)
    raise AssertionError("abort returned")  # it always raises


@contextlib.contextmanager
def translate(peer: PeerId) -> Iterator[None]:
    """Turn what a call to ``peer`` raises into ours.

    Raises: PeerUnavailable if it is away, silent or has not got what was asked for,
        ProtocolError if it refused or broke the rules.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise translated(peer, error) from error
    except grpc.aio.UsageError as error:
        raise PeerUnavailable("SK-NET-003", f"{peer}: {error}") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this task: the channel was closed under the call.
        raise PeerUnavailable("SK-NET-003", f"{peer}: the connection was dropped") from None


def translated(peer: PeerId, error: grpc.aio.AioRpcError) -> PeerUnavailable | ProtocolError:
    """Return our error for ``error`` of a call to ``peer``."""
    code, text = error.code(), (error.details() or "")[:_MAX_DETAIL_CHARS]
    detail = f"{peer}: {code.name.lower()}: {text}"
    if code in _AWAY:
        return PeerUnavailable("SK-NET-003", detail)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in text:
            return ProtocolError("size", detail)
        return PeerUnavailable("SK-NET-003", detail)  # too many calls at once
    return ProtocolError(_reason(error), detail, _code(text))


def _reason(error: grpc.aio.AioRpcError) -> str:
    named = dict(error.trailing_metadata() or ()).get(REASON_KEY, "")
    known = isinstance(named, str) and 0 < len(named) <= _MAX_REASON_CHARS
    return str(named) if known else str(error.code().name).lower().replace("_", "-")


def _code(text: str) -> str:
    code = text.partition(":")[0]
    return code if code.startswith("SK-PRO-") and code in CATALOG else "SK-PRO-004"
