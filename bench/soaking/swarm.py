"""A small swarm that trains for as long as one likes and leaves the machine to others.

Training takes whatever processor time it gets. To stay gentle, the compute processes are stopped
and continued by signals, all at once, so that they run for a small share of the time: to the
daemons they look like slow machines, and nothing else about them is different.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lone_daemon import write_text
from skerry.node.demo_swarm import LocalDaemon, LocalSwarm
from soaking.readings import Moment, Reading, processes, read

_PATIENCE_S = 60.0
"""For a daemon that may have to wait for a core itself."""
_RUN = """
name = "soak"
rounds = 0
[model]
layers = 2
d_model = 64
heads = 2
kv_heads = 1
ffn_dim = 128
context = 32
[data]
source = "text"
path = "{text}"
validation_batches = 1
validation_every = 10
[inner]
steps = 2
batch_size = 2
[peers]
min = {peers}
"""


@dataclass(frozen=True, slots=True)
class GentleSwarm:
    """A swarm in training."""

    daemons: tuple[LocalDaemon, ...]
    left_behind: list[str] = field(default_factory=list)
    """Processes that had not ended by themselves in the end, and were killed."""

    @property
    def page_url(self) -> str:
        """Where the first daemon serves its status page."""
        return self.daemons[0].client.status(_PATIENCE_S).page_url

    def check(self) -> None:
        """Raises: DaemonError("SK-DMN-005") if a daemon has ended by itself."""
        for daemon in self.daemons:
            daemon.check_running()

    def read(self, began: float) -> list[Reading]:
        """Read every process; one that ends meanwhile is left out."""
        readings = []
        for daemon in self.daemons:
            status = daemon.client.status(_PATIENCE_S)
            moment = Moment(began, status.run.round.round)
            for role, process in processes(daemon).items():
                with suppress(psutil.Error):
                    readings.append(read(daemon.name, role, process, moment))
        return readings

    def let_train(self, may: bool) -> None:
        """Continue or stop all compute processes."""
        for daemon in self.daemons:
            with suppress(psutil.NoSuchProcess):
                if compute := processes(daemon).get("compute"):
                    compute.send_signal(signal.SIGCONT if may else signal.SIGSTOP)


@contextmanager
def gentle_swarm(folder: Path, peers: int) -> Iterator[GentleSwarm]:
    """Start daemons with homes in ``folder``, have them train together, and end them."""
    write_text(folder / "text.txt")
    with LocalSwarm(folder) as swarm:
        daemons = [swarm.start(f"peer-{number + 1}") for number in range(peers)]
        for daemon in daemons:
            daemon.wait_until_ready()
        run = _RUN.format(text=folder / "text.txt", peers=peers)
        token = daemons[0].client.init(run).token
        for daemon in daemons[1:]:
            daemon.client.join(token)
        gentle = GentleSwarm(tuple(daemons))
        try:
            yield gentle
        finally:
            gentle.let_train(True)
        gentle.left_behind.extend(swarm.stop())
