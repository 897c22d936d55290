"""A real daemon whose parameters have become others than everybody else's."""

import sys
from pathlib import Path

import pytest
from real_faults import check
from swarm import Swarm

from skerry.node.demo_swarm import LocalSwarm
from skerry.node.home import Home

pytestmark = pytest.mark.chaos

_LAUNCHER = Path(__file__).parent / "diverging_daemon.py"
ROUNDS = 8
WRONG = "c"


class DivergingSwarm(LocalSwarm):
    """Starts each daemon by way of diverging_daemon.py."""

    def command(self, name: str, home: Home) -> list[str]:
        _, _, _, _, *rest = super().command(name, home)
        no_forks = ["env", "GRPC_ENABLE_FORK_SUPPORT=false"]
        return [*no_forks, sys.executable, "-P", str(_LAUNCHER), str(order(home)), *rest]


def order(home: Home) -> Path:
    return home.path.with_name(f"{home.path.name}.diverge")


def test_who_has_diverged_says_so_heals_and_goes_on(tmp_path: Path) -> None:
    """By what it kept of the round before; since that goes wrong, too, by the others' state."""
    with Swarm(tmp_path, DivergingSwarm(tmp_path)) as swarm:
        peers = swarm.start("a", "b", WRONG)
        swarm.begin(peers, ROUNDS)
        wrong = peers[-1]
        wrong.wait_for("applied", round=2)
        mark = wrong.mark()
        order(wrong.home).write_text("2")
        diverged = wrong.wait_for("diverged", mark)
        assert diverged["mine"] != diverged["agreed"]
        downloaded = wrong.wait_for("state-downloaded", mark)
        assert downloaded["digest"] == diverged["agreed"]
        assert set(downloaded["sources"]) <= {peer.peer_id for peer in peers[:2]}
        end = swarm.finish(peers, ROUNDS)
        left = swarm.stop()
        assert check(swarm, peers, set()) == end.text_tokens
        chain = wrong.chain(swarm.run_id)
        assert [e["event"] for e in wrong.recorded()].count("diverged") == 2
    assert not left, f"left behind: {left}"
    later = [commit for commit in chain if commit.round > diverged["round"]]
    assert any(one.signer == wrong.peer_id for commit in later for one in commit.announces)
