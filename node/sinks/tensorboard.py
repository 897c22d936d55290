"""Points as TensorBoard event files in the run's folder: tensorboard --logdir HOME/runs."""

from tensorboardX import SummaryWriter

from skerry.node.sinks.scalars import Point
from skerry.node.sinks.sink import RunName


class TensorBoard:
    """A Sink."""

    def __init__(self, run: RunName) -> None:
        """Begin a new event file beside those of earlier starts."""
        # Its own flush() does not wait for what its thread has yet to write.
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), flush_secs=1)

    def write(self, point: Point) -> None:
        """Add the scalars; the step is the round."""
        for name, value in point.values.items():
            self._writer.add_scalar(name, value, point.round, walltime=point.time)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
