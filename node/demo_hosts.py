"""What each peer of a demo holds in the end; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.table import Table

from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import short


@dataclass(frozen=True, slots=True)
class HostReport:
    """What one peer hosted at the end, and what it sent."""

    name: str
    peer_id: str
    role: str
    """replica or stage."""
    shards: Mapping[str, str]
    """Digest of each shard that it holds."""
    digest_round: int
    bytes_sent: int
    """Pseudo-gradients handed to other peers."""


def host_report(name: str, status: pb.StatusReply) -> HostReport:
    """Return what a daemon says of itself."""
    own = next((peer for peer in status.run.peers if peer.self), pb.PeerStatus())
    return HostReport(
        name=name,
        peer_id=status.peer_id,
        role=own.role,
        shards=dict(status.run.shard_digests),
        digest_round=status.run.digest_round,
        bytes_sent=status.run.payload_bytes_sent,
    )


def disagreements(hosts: Iterable[HostReport]) -> list[str]:
    """Say which shards are not the same on all of their hosts."""
    held: dict[str, set[str]] = {}
    for shard, digest in (entry for host in hosts for entry in host.shards.items()):
        held.setdefault(shard, set()).add(digest)
    differing = [shard for shard, digests in held.items() if len(digests) > 1]
    return [f"the hosts of {', '.join(differing)} do not agree"] if differing else []


def roll(hosts: Iterable[HostReport]) -> Table:
    """Return one row per peer with the digests of its shards."""
    table = Table("peer", "id", "role", "shards, with the beginning of their digests")
    for host in hosts:
        shards = ", ".join(f"{name} {digest[:6]}" for name, digest in _in_order(host.shards))
        table.add_row(host.name, short(host.peer_id), host.role, shards)
    return table


def _in_order(shards: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(shards.items(), key=lambda item: _place(item[0]))


def _place(shard: str) -> int:
    """Return where a shard stands in the model."""
    ends = {"embed": -1, "head": 2**31}
    return ends[shard] if shard in ends else int(shard.partition(".")[2])
