"""One outer round as the status page's API shows it: who took part, and what took how long.

Times are unix seconds, durations seconds, sizes bytes, losses nats per text token. None means
"not known" and is never the same as 0.
"""

from typing import Literal

from skerry.node.page.data import Amount, Count, Data

SpanName = Literal[
    "starting",
    "loading",
    "waiting",
    "observing",
    "training",
    "encoding",
    "collecting",
    "fetching",
    "applying",
    "paused",
]
"""This peer's phases; collecting is waiting for contributions and the commit."""


class Span(Data):
    """A stretch of a round that the answering peer spent in one phase."""

    name: SpanName
    start_s: Amount
    """Since the round's start."""
    duration_s: Amount


class Contribution(Data):
    """One peer's part in a round."""

    peer: str
    """Peer id."""
    name: str
    """Short form of the id."""
    announced_s: Amount | None
    """When its announcement came in, seconds after the round's start; None if never here."""
    checked_s: Amount | None
    """When its payloads were here and found sound or not, seconds after the round's start."""
    included: bool | None
    """Whether the commit holds it; None while there is no commit."""
    late: bool
    """Was in the roster and is not in the commit."""
    refused: str | None
    """Why it was not accepted."""
    text_tokens: Count | None
    """Trained in this round."""
    loss: float | None
    """Its mean training loss of the round."""
    bytes: Count | None
    """Size of its payloads."""


class Waited(Data):
    """Whom the answering peer waited for in a round."""

    peer: str
    """Peer id, or what else was awaited, in words."""
    duration_s: Amount


class Round(Data):
    """One outer round: a row of the waterfall and a point of every curve.

    A round that ended before this peer took part is known from the commit chain alone: it has
    contributions and text tokens, but no times and no spans.
    """

    round: Count
    parent: str | None
    """Hash of the commit it builds on."""
    commit: str | None
    """Hash of its commit, once there is one."""
    leader: str | None
    """Peer id of who published the commit, or is to."""
    view: Count
    started_at: Amount | None
    """Unix seconds."""
    commit_s: Amount | None
    """When the commit came, seconds after the start."""
    fetch_s: Amount | None
    """How long fetching the missing payloads took; None if none were missing."""
    apply_s: Amount | None
    """How long the outer update took."""
    duration_s: Amount | None
    """From the start until the update was applied; None while the round goes on."""
    spans: tuple[Span, ...]
    contributions: tuple[Contribution, ...]
    """One for each peer of the roster and each that announced, by peer id."""
    waited: tuple[Waited, ...]
    """Longest first."""
    text_tokens: Count | None
    """Committed in this round."""
    total_text_tokens: Count | None
    """Committed on the chain up to and including this round."""
    loss: float | None
    """Mean training loss of the contributions, weighted by text tokens."""
    val_loss: float | None
    """Validation loss after this round, where it was measured."""
    digest: str | None
    """State digest after this round."""
    payload_bytes: Count | None
    """Of all contributions in the commit, once each."""
    dense_bytes: Count | None
    """The same contributions as dense fp32."""
    sent: dict[str, Count]
    """What the answering peer sent during the round: bytes by kind."""
    received: dict[str, Count]
    """What it received: bytes by kind."""
