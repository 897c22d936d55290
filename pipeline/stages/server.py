"""A host of stages behind frames: the body of a task in, the body of its result out.

The loop that reads frames from the socket pair, and what becomes of an error that nobody foresaw,
is worker.py's, as for all other requests of the compute process.
"""

import logging
from collections.abc import Callable

from skerry.pipeline.stages.frames import decode_task, encode
from skerry.pipeline.stages.host import StageHost
from skerry.pipeline.stages.tasks import Refused, Result, Task
from skerry.protocol.errors import InputFault, ProtocolError

log = logging.getLogger(__name__)


def unobserved(result: Result) -> None:
    """Take no notice."""


def answer(host: StageHost, body: bytes, observe: Callable[[Result], None] = unobserved) -> bytes:
    """Do the task of a frame and return the frame that answers it; ``observe`` sees the result.

    Whatever is wrong with the task becomes ``Refused``, with the reason it is counted under, and
    the host goes on as if the task had never come.
    """
    try:
        result = host.do(_task(body))
        observe(result)
        return encode(result)
    except ProtocolError as error:
        log.warning("task refused: %s: %s", error.reason, error)
        refused = Refused(
            reason=error.reason,
            code=error.code,
            detail=error.detail,
            of_input=isinstance(error, InputFault),
            bytes_in_flight=host.bytes_in_flight,
        )
        return encode(refused)


def _task(body: bytes) -> Task:
    try:
        return decode_task(body)
    except ValueError as error:
        raise ProtocolError("malformed", f"not a task: {str(error)[:200]}") from None
