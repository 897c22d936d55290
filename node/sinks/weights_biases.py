"""Points as a run of Weights & Biases; WANDB_MODE=offline keeps them in the run's folder.

Where they go and as whom is W&B's own business: its WANDB_* variables and its login.
"""

import wandb

from skerry.node.sinks.scalars import Point
from skerry.node.sinks.sink import RunName


class WeightsBiases:
    """A Sink."""

    def __init__(self, run: RunName, project: str) -> None:
        """Begin this peer's part in the run, or go on with it after a restart."""
        self._run = wandb.init(
            project=project,
            id=f"{run.run_id[:12]}-{run.peer_id[-12:]}",
            group=run.run_id[:12],
            name=f"{run.name} {run.peer_id[-6:]}",
            dir=str(run.folder),
            resume="allow",
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True
            ),
        )
        self._run.define_metric("*", step_metric="round")

    def write(self, point: Point) -> None:
        """Log the scalars against the round."""
        self._run.log({"round": point.round, **point.values})

    def close(self) -> None:
        """Send or write what is still held back."""
        self._run.finish()
