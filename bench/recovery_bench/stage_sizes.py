"""How large a stage is of which the seconds are measured, and under which circumstances. Pure."""

import sys
from dataclasses import dataclass
from pathlib import Path

from skerry.pipeline.planning.draft import needed_bytes
from skerry.pipeline.planning.swarm_file import PeerEntry, PlanSection, SwarmFile, problem_of
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest, parse_run_file

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from tiny_run import tiny_run_file

STAGES = 4


@dataclass(frozen=True, slots=True)
class StageSize:
    """How large a stage is, and how much a round trains."""

    name: str
    changes: dict[str, object]
    """Keys of the run file."""

    def manifest(self) -> Manifest:
        """Return what a run of this size is like."""
        return parse_run_file(tiny_run_file(Path("/text"), **self.changes), PeerId("bench"))

    @property
    def params(self) -> int:
        """Parameters of a stage: those of a block."""
        return next(s.numel for s in layout_of(self.manifest().model) if s.name == "block.1")

    def memory(self, *, is_origin: bool, blocks: int = 1) -> int:
        """Return the bytes that blocks of a peer take, as the planner counts them."""
        entry = PeerEntry(name="any", memory=1, tflops=1.0)
        manifest = self.manifest()
        plan = PlanSection(slots=manifest.ring.slots)
        problem = problem_of(SwarmFile(plan=plan, peers=(entry,)), manifest)
        return needed_bytes(problem, blocks, is_origin)


SIZES = {
    one.name: one
    for one in (
        StageSize("tiny", {"layers": STAGES, "steps": 20, "batch_size": 4}),
        StageSize(
            "large",
            {
                "layers": STAGES,
                "d_model": 1024,
                "heads": 8,
                "kv_heads": 2,
                "ffn_dim": 2816,
                "steps": 4,
                "batch_size": 2,
                "lr": 3e-4,
            },
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Under what is measured."""

    size: StageSize
    upload: str
    """What each daemon may send at most, as in its settings; "0": no limit but loopback's."""
    heartbeat_s: float
