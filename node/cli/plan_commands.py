"""The command that plans a swarm before anyone joins: plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.node.cli.options import RUN_PANEL, OutputFlags
from skerry.node.cli.spreading import add_commands
from skerry.node.cli.text_file import read_text
from skerry.protocol.errors import ConfigError

if TYPE_CHECKING:
    from skerry.pipeline.planning.problem import Problem
    from skerry.pipeline.planning.swarm_file import SwarmFile
    from skerry.protocol.manifest import RunFile

_MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that say what is planned."""

    peers: Annotated[
        Path | None,
        typer.Option("--peers", metavar="FILE", help="Who would take part; TOML."),
    ] = None
    topology: Annotated[
        Path | None,
        typer.Option(
            "--topology",
            metavar="FILE",
            help="Links between sites, and who is there unless --peers tells; TOML.",
        ),
    ] = None
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN.toml", help="What to train, if no file says."),
    ] = None

    def problem(self) -> "Problem":
        """Read them. Raises: ConfigError."""
        from skerry.pipeline.planning.swarm_file import joined, problem_of

        run_file = _run_file(self.run) if self.run else None
        if self.peers is not None and self.topology is not None:
            return problem_of(joined(_swarm(self.peers), _swarm(self.topology)), run_file)
        only = self.peers or self.topology
        if only is None:
            raise ConfigError("SK-CFG-002", "nothing to plan: give --peers FILE or --topology FILE")
        return problem_of(_swarm(only), run_file)


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_commands(app, RUN_PANEL, (plan,))


def plan(
    *,
    sources: Sources,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Another one may find another plan.")
    ] = 0,
    advice: Annotated[
        bool, typer.Option("--advice/--no-advice", help="Find out what would help.")
    ] = True,
    output: OutputFlags,
) -> None:
    """Show who would host what, how fast that would be, and what would help.

    Nothing is started, nobody is asked: everything follows from the files. A peer with room for
    the whole model is a full replica; smaller ones form rings, each of which holds it once. What
    is trained stands in the file or in a run file. docs/planning.md describes all keys.

    \b
    Examples:
      skerry plan --peers peers.toml
      skerry plan --topology sites.toml --json > plan.json
      skerry plan --peers peers.toml --topology sites.toml --run run.toml
    \b
    A peers.toml:
      \\[model]
      layers = 24
      d_model = 1024
      [\\[peers]]
      name = "office"
      count = 3
      memory = "24GB"
      tflops = 20
      upload = "50mbit"
      download = "250mbit"
    \b
    A sites.toml has its [\\[peers]] name a site, and:
      [\\[links]]
      a = "berlin"
      b = "paris"
      latency = "12ms"
      bandwidth = "300mbit"
    """
    problem = sources.problem()
    from skerry.node.cli.output import print_json
    from skerry.node.cli.plan_report import find, lines, to_dict

    report = find(problem, seed, advice)
    if output.as_json:
        print_json(to_dict(report))
        return
    for line in lines(report):
        typer.echo(line)


def _swarm(path: Path) -> "SwarmFile":
    from skerry.pipeline.planning.swarm_file import read_swarm_file

    return read_swarm_file(str(path), read_text(path, _MAX_FILE_BYTES))


def _run_file(path: Path) -> "RunFile":
    from skerry.protocol.ids import PeerId
    from skerry.protocol.manifest import parse_run_file

    try:
        text = read_text(path, _MAX_FILE_BYTES)
        return parse_run_file(text, PeerId("planned"))  # who owns it does not matter here
    except ConfigError as error:
        raise ConfigError(error.code, f"{path}: {error.detail}") from None
