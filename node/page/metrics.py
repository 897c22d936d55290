"""Prometheus metrics, read from the state whenever they are scraped.

Names follow Prometheus' rules: base units in the suffix, ``_total`` for counters. Labels name
the run, a kind or a reason; never a peer's address.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from skerry.node.page.desk import Desk
from skerry.node.page.models import PeerState, RunHeader
from skerry.node.page.round import Round
from skerry.node.page.swarm import state_of
from skerry.node.run.context import RunContext

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_RUN = ["run"]
_REASON = re.compile(r"[^a-z0-9_-]")
_MAX_REASON = 40


class Metrics(Collector):
    """All metrics of one daemon."""

    def __init__(self, desk: Desk) -> None:
        """Read from ``desk``."""
        self._desk = desk
        self._bandwidth = Bandwidth()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the page that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; called by the registry."""
        yield _gauge("process_resident_bytes", "Memory of the node process.", [((), _resident())])
        yield _gauge("up", "Whether the node is healthy.", [((), float(self._healthy()))])
        context, chronicle, header = self._desk.context, self._desk.chronicle, self._desk.header()
        if context is None or chronicle is None or header is None:
            return
        run = header.run_id[:8]
        yield from _progress(run, header)
        yield from _exchange(run, context, header)
        rates = self._bandwidth.since_last(run, self._desk.now().monotonic, header)
        if rates:
            labels, text = ["run", "direction"], "Mean since the last scrape."
            yield _gauge("bandwidth_bytes_per_second", text, rates, labels)
        yield from _swarm(run, context, self._desk)
        yield _round_seconds(run, chronicle.waterfall.rows.values())
        number, seconds = chronicle.recovered
        recoveries = SummaryMetricFamily(
            "skerry_recovery_seconds", "Failures that were mended since the start.", labels=_RUN
        )
        recoveries.add_metric([run], count_value=number, sum_value=seconds)
        yield recoveries
        yield _counter(
            "state_hash_mismatch",
            "Times the own state was not the agreed one.",
            [((run,), chronicle.diverged)],
        )

    def _healthy(self) -> bool:
        return self._desk.health_answer().healthy


class Bandwidth:
    """Bytes per second since somebody asked last; a graph of the counters tells the same."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._last: tuple[str, float, tuple[int, int]] | None = None

    def since_last(self, run: str, now: float, header: RunHeader) -> "_Samples":
        """Return the mean rates up and down, ``now`` in monotonic seconds; none the first time."""
        totals = sum(header.bytes.sent.values()), sum(header.bytes.received.values())
        last, self._last = self._last, (run, now, totals)
        if last is None or last[0] != run or now <= last[1]:
            return ()
        rates = [(new - old) / (now - last[1]) for new, old in zip(totals, last[2], strict=True)]
        return [((run, "up"), rates[0]), ((run, "down"), rates[1])]


def _progress(run: str, header: RunHeader) -> Iterator[Metric]:
    own = (run,)
    known: list[tuple[str, str, float | None]] = [
        ("training_loss", "Nats per text token, newest inner step.", header.loss),
        ("validation_loss", "Nats per text token, newest measurement.", header.val_loss),
        ("round", "Outer round being worked on.", header.round),
        ("round_step", "Inner step of the round.", header.step),
        ("round_steps", "Inner steps of a round.", header.steps),
        ("round_view", "Leaders of this round that were passed over.", header.view),
        ("eta_seconds", "Until the last round.", header.eta_s),
        ("model_parameters", "Parameters of the model.", header.params),
    ]
    if header.goodput is not None:
        rate, ratio = header.goodput.text_tokens_per_s, header.goodput.ratio
        known.append(("text_tokens_per_second", "Committed, over the newest rounds.", rate))
        known.append(("goodput_ratio", "Committed rate over the undisturbed rate.", ratio))
    for name, help_text, value in known:
        if value is not None:
            yield _gauge(name, help_text, [(own, value)], _RUN)
    yield _gauge("text_tokens", "Committed on the chain.", [(own, header.text_tokens)], _RUN)


def _exchange(run: str, context: RunContext, header: RunHeader) -> Iterator[Metric]:
    sent = [((run, kind), n) for kind, n in sorted(header.bytes.sent.items())]
    received = [((run, kind), n) for kind, n in sorted(header.bytes.received.items())]
    labels = ["run", "kind"]
    yield _counter("sent_bytes", "To other peers, by kind.", sent, labels)
    yield _counter("received_bytes", "From other peers, by kind.", received, labels)
    dense = [((run,), header.bytes.dense)]
    yield _counter("dense_bytes", "What the payloads sent would have been as fp32.", dense)
    if header.bytes.ratio is not None:
        ratio = [((run,), header.bytes.ratio)]
        yield _gauge("compression_ratio", "Dense bytes over payload bytes sent.", ratio, _RUN)
    reasons: Counter[str] = Counter()
    for reason, number in context.facts.refused.items():
        reasons[_REASON.sub("_", reason.lower())[:_MAX_REASON]] += number
    refused = [((run, reason), n) for reason, n in sorted(reasons.items())]
    yield _counter("rejected_updates", "Refused from peers.", refused, ["run", "reason"])
    failed = [((run,), context.facts.failed_downloads)]
    yield _counter("downloads_failed", "Contributions that could not be had.", failed)
    here = [((run,), _downloaded_percent(context))]
    text = "Of the parameters of the state being downloaded; 100 while none is."
    yield _gauge("p2p_downloaded_params_percent", text, here, _RUN)


def _downloaded_percent(context: RunContext) -> float:
    wanted = context.facts.state_wanted
    here = (shard.size for shard in wanted if context.blobs.size(shard.address) is not None)
    return 100 * sum(here) / sum(shard.size for shard in wanted) if wanted else 100.0


def _swarm(run: str, context: RunContext, desk: Desk) -> Iterator[Metric]:
    rounds, now = context.state.rounds, desk.now()
    others = {*rounds.members, *rounds.roster, *rounds.alive} - {rounds.me}
    states = Counter(state_of(context, peer, now) for peer in others)
    samples = [((run, name), states[name]) for name in get_args(PeerState)]
    yield _gauge("peer_connections", "Other peers, by state.", samples, ["run", "state"])
    yield _gauge("roster_peers", "Peers that train.", [((run,), len(rounds.roster))], _RUN)


def _round_seconds(run: str, rows: Iterable[Round]) -> Metric:
    """Say how long each phase of the newest finished round took."""
    newest = max((row for row in rows if row.duration_s is not None), default=None, key=_number)
    spans: defaultdict[str, float] = defaultdict(float)
    for span in newest.spans if newest else ():
        spans[span.name] += span.duration_s
    samples = [((run, name), seconds) for name, seconds in sorted(spans.items())]
    return _gauge("round_seconds", "Of the newest finished round.", samples, ["run", "phase"])


def _number(row: Round) -> int:
    return row.round


_Samples = Sequence[tuple[tuple[str, ...], float]]


def _gauge(name: str, text: str, samples: _Samples, labels: list[str] | None = None) -> Metric:
    family = GaugeMetricFamily(f"skerry_{name}", text, labels=labels or [])
    for values, number in samples:
        family.add_metric(list(values), number)
    return family


def _counter(name: str, text: str, samples: _Samples, labels: list[str] | None = None) -> Metric:
    family = CounterMetricFamily(f"skerry_{name}", text, labels=labels or _RUN)
    for values, number in samples:
        family.add_metric(list(values), number)
    return family


def _resident() -> float:
    """Return the resident memory of this process; 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
