"""How fast the transports move payloads, and what that costs, beside a plain socket.

Both ends are processes of their own: on loopback, and in two network namespaces joined by a
shaped link (in user space: root, but no module of the kernel). Each payload is sent on one new
connection again and again, over one or several streams. The goal: 90 % of the shaped link for
payloads of 16 MB and more, on a connection that has found the link's rate.

    python bench/transport.py                  a table
    python bench/transport.py --json           one line per result
    python bench/transport.py --mbit 20 --round-trip 100 --payloads 4 --streams 1
    python bench/transport.py --write --check  a page under bench/results; fails on a missed goal
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from transport_bench.link import Loopback, ShapedLink, why_not
from transport_bench.results import Claims, Result, Skipped, Transfer, to_json
from transport_bench.stacks import STACKS

END = Path(__file__).parent / "transport_bench" / "end.py"
RESULTS = Path(__file__).parent / "results"
GOAL = 0.9
GOAL_MB = 16
LOOPBACK_MB = 128
_PATIENCE_S = 600


def measure(options: argparse.Namespace) -> Iterator[Result]:
    """Yield every result, claims last."""
    found: list[Transfer] = []
    for result in transfers(options):
        if isinstance(result, Transfer):
            result = beside_socket(result, found)
            found.append(result)
        yield result
    yield claims(found)


def transfers(options: argparse.Namespace) -> Iterator[Transfer | Skipped]:
    """Yield the measurements of all links."""
    with Loopback() as link:
        for stack in options.stacks:
            yield one(link, stack, LOOPBACK_MB, 1, options.repeats)
    reason = why_not()
    if reason:
        yield Skipped(reason=reason)
        return
    with ShapedLink(options.mbit, options.round_trip) as shaped:
        for payload_mb in options.payloads:
            for streams in options.streams:
                for stack in options.stacks:
                    yield one(shaped, stack, payload_mb, streams, options.repeats)


def one(
    link: Loopback | ShapedLink, stack: str, payload_mb: float, streams: int, repeats: int
) -> Transfer:
    """Send a payload ``repeats`` + 1 times on one connection."""
    here, there = link.hosts
    serving = link.command(1, sys.executable, str(END), "serve", stack, there)
    with subprocess.Popen(
        serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        where = receiver.stdout.readline().strip()
        sizes = (str(int(payload_mb * 1e6)), str(streams), str(repeats + 1))
        sending = link.command(0, sys.executable, str(END), "send", stack, here, where, *sizes)
        sent = subprocess.run(
            sending, check=True, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE_S
        )
        receiver.communicate()  # the end of its input ends it
    return transfer_of(
        link, stack, streams, [json.loads(line) for line in sent.stdout.splitlines()]
    )


def transfer_of(
    link: Loopback | ShapedLink, stack: str, streams: int, lines: Sequence[dict[str, Any]]
) -> Transfer:
    """Sum up the transfers over one connection."""
    first, *later = [line["bytes"] / 1e6 / line["seconds"] for line in lines]
    moved = sum(line["bytes"] for line in lines)
    mb_s = median(later)
    return Transfer(
        link=link.name,
        stack=stack,
        streams=streams,
        payload_mb=lines[0]["bytes"] / 1e6,
        first_mb_s=round(first, 2),
        mb_s=round(mb_s, 2),
        cpu_s_per_gb=round(sum(line["cpu_s"] for line in lines) / (moved / 1e9), 2),
        of_link=round(mb_s / link.limit_mb_s, 3) if link.limit_mb_s else None,
        of_socket=None,
    )


def beside_socket(result: Transfer, found: Sequence[Transfer]) -> Transfer:
    """Compare with the plain socket on the same link, with as many streams and bytes."""
    for other in found:
        same = (other.link, other.streams, round(other.payload_mb)) == (
            *(result.link, result.streams),
            round(result.payload_mb),
        )
        if other.stack == "socket" and same:
            return replace(result, of_socket=round(result.mb_s / other.mb_s, 3))
    return result


def claims(found: Sequence[Transfer]) -> Claims:
    """Compare each transport with the goal."""
    best: dict[str, float] = {}
    for stack in {one.stack for one in found} - {"socket"}:
        shares: dict[float, float] = {}
        for one in found:
            if one.stack == stack and one.of_link is not None and one.payload_mb >= GOAL_MB:
                size = round(one.payload_mb)
                shares[size] = max(shares.get(size, 0.0), one.of_link)
        if shares:
            best[stack] = min(shares.values())
    passed = bool(best) and all(share >= GOAL for share in best.values())
    return Claims(goal=GOAL, best=best, passed=passed)


def table(found: Sequence[Result]) -> Iterator[str]:
    """Yield the results as Markdown."""
    yield (
        "| link | payload | streams | stack | new connection | warm | of the link"
        " | of a socket | CPU s per GB |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in found:
        if isinstance(one, Transfer):
            of_link = "" if one.of_link is None else f"{one.of_link:.0%}"
            of_socket = "" if one.of_socket is None else f"{one.of_socket:.0%}"
            yield (
                f"| {one.link} | {one.payload_mb:.0f} MB | {one.streams} | {one.stack}"
                f" | {one.first_mb_s} MB/s | **{one.mb_s} MB/s** | {of_link} | {of_socket}"
                f" | {one.cpu_s_per_gb} |"
            )
    for one in found:
        if isinstance(one, Skipped):
            yield f"\nNot measured: {one.reason}."
        elif isinstance(one, Claims) and one.best:
            told = ", ".join(f"{stack} {share:.1%}" for stack, share in sorted(one.best.items()))
            goal = f"{one.goal:.0%} of the shaped link for {GOAL_MB} MB and more, warm"
            yield f"\nGoal: {goal}. Reached at least: {told}."


def page(found: Sequence[Result], load: tuple[float, float, float]) -> str:
    """Return the results as a dated page."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=END.parent,
    )
    names = ("hivemind", "libp2p", "trio", "uvloop")
    told = (
        "# Transports: throughput and cost",
        "",
        f"- Command: `python bench/transport.py {' '.join(sys.argv[1:])}`",
        f"- Commit: {commit.stdout.strip()}, {date.today()}",
        f"- Hardware: {platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()},"
        f" load average {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after",
        f"- Versions: Python {platform.python_version()}, "
        + ", ".join(f"{name} {_version(name)}" for name in names),
        "",
        *table(found),
        "",
    )
    return "\n".join(told)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one line per result")
    parser.add_argument("--write", action="store_true", help="a page under bench/results")
    parser.add_argument("--check", action="store_true", help="fail if the goal is missed")
    parser.add_argument("--stacks", nargs="+", choices=STACKS, default=list(STACKS))
    parser.add_argument("--mbit", type=float, default=100.0, help="rate of the shaped link")
    parser.add_argument("--round-trip", type=float, default=50.0, help="its round trip, in ms")
    parser.add_argument("--payloads", type=float, nargs="+", default=[1, 16, 64], help="in MB")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=3, help="after the first")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 if a goal is to be checked and was missed."""
    options, load = _options(arguments), os.getloadavg()
    found: list[Result] = []
    for result in measure(options):
        found.append(result)
        if options.json:
            print(to_json(result), flush=True)
    if not options.json:
        print("\n".join(table(found)))
    if options.write:
        (RESULTS / f"{date.today()}_transport.md").write_text(page(found, load))
    last = found[-1]
    return int(options.check and isinstance(last, Claims) and not last.passed)


if __name__ == "__main__":
    sys.exit(main())
