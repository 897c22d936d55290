"""What the demo of faults must have shown in the end; pure, without processes."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.table import Table

from skerry.node.demo_hosts import HostReport, disagreements
from skerry.node.demo_injuries import Recovery, missing_kinds
from skerry.recovery.healing_words import named


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosReport:
    """Everything the demo shows; ``to_json`` is what ``--json`` writes."""

    seed: int
    recoveries: tuple[Recovery, ...]
    hosts: tuple[HostReport, ...]
    rounds: int
    text_tokens: int
    """That the commits count."""
    contributed_text_tokens: int
    """That they count at least, if none is lost."""
    trained_text_tokens: int
    """That they count at most, if none counts twice."""
    val_loss_start: float
    """Nats per text token, as are the next two."""
    val_loss_end: float
    unigram_entropy: float
    seconds: float
    left_behind: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the report as one JSON object."""
        return json.dumps(asdict(self) | {"failures": failures(self)}, indent=2) + "\n"


def failures(report: ChaosReport) -> list[str]:
    """Say in words what the demo did not show; empty if it showed everything."""
    found = [f"process left behind: {process}" for process in report.left_behind]
    found += missing_kinds(report.recoveries)
    found += disagreements(report.hosts)
    if len({host.digest_round for host in report.hosts}) != 1:
        found.append("the peers stand after different rounds")
    least, counted, most = _text_tokens(report)
    if counted < least:
        found.append(f"{counted:,} text tokens are counted, {least:,} were contributed")
    if counted > most:
        found.append(f"{counted:,} text tokens are counted, {most:,} were trained")
    if not 0 < report.val_loss_end < report.unigram_entropy:
        wanted = report.unigram_entropy
        found.append(f"validation loss {report.val_loss_end:.3f}, must be below {wanted:.3f}")
    return found


def injuries(recoveries: Iterable[Recovery]) -> Table:
    """Return one row per failure."""
    table = Table("what failed", "shards", "came back by", "after", "loss before", "and after")
    for one in recoveries:
        table.add_row(
            f"{one.kind} ({', '.join(one.victims)})",
            named(one.shards),
            one.rung,
            f"{one.seconds:.1f} s",
            f"{one.loss_before:.3f}",
            f"{one.loss_after:.3f}",
        )
    return table


def figures(report: ChaosReport) -> Table:
    """Return the run's figures."""
    table = Table(show_header=False, box=None, pad_edge=False)
    entropy = f"{report.unigram_entropy:.3f} nats per text token"
    least, counted, most = _text_tokens(report)
    bounds = f"at least {least:,} were contributed, at most {most:,} trained"
    rows = [
        ("validation loss", f"{report.val_loss_start:.3f} -> {report.val_loss_end:.3f}"),
        ("unigram entropy", f"{entropy} (what byte frequencies alone would reach)"),
        ("counted", f"{counted:,} text tokens in {report.rounds} rounds; {bounds}"),
        ("time", f"{report.seconds:.0f} s, seed {report.seed}"),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}[/bold]", value)
    return table


def _text_tokens(report: ChaosReport) -> tuple[int, int, int]:
    """Return how many must be counted, are counted, and may be counted."""
    return report.contributed_text_tokens, report.text_tokens, report.trained_text_tokens
