"""The validation loss after a round: measured, shown, kept; nothing depends on it."""

from collections.abc import Awaitable

from skerry.node.run.context import RunContext
from skerry.node.run.disk import DiskWriter
from skerry.protocol import compute as cp
from skerry.protocol.errors import SkerryError


async def note_validation(
    context: RunContext, disk: DiskWriter, round_number: int, answer: Awaitable[cp.Reply]
) -> None:
    """Note the loss of the state after a round, or that it could not be measured."""
    try:
        reply = await answer
    except SkerryError as error:  # only a measurement: the run goes on without it
        context.journal.write("warning", text=f"no validation loss: {error}")
        return
    assert isinstance(reply, cp.Evaluated)
    context.facts.validated(round_number, reply.loss)
    disk.keep_facts()
    context.journal.write("validated", round=round_number, loss=round(reply.loss, 4))
