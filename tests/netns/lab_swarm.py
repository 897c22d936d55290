"""Daemons on the machines of a lab."""

from pathlib import Path

from natlab import NatLab

from skerry.node.demo_swarm import LocalSwarm
from skerry.node.home import Home

LONG_S = 1200.0
"""For what takes several tries of several seconds each, and for daemons that start side by side, on
a machine that is busy besides."""


class LabSwarm(LocalSwarm):
    """Starts each daemon on the machine that is called as it is."""

    def __init__(self, folder: Path, lab: NatLab) -> None:
        super().__init__(folder)
        self._lab = lab
        self.flags: dict[str, list[str]] = {}
        """What a daemon is started with besides."""

    def command(self, name: str, home: Home) -> list[str]:
        command = [*self._lab.inside(name), *super().command(name, home), "--host=0.0.0.0"]
        return [*command, *self.flags.get(name, [])]
