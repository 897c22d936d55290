"""The loop behind ``--watch``: ask the daemon, show the answer, until the run is finished."""

import sys
import time

import typer
from rich.console import Console
from rich.live import Live

from skerry.node.cli.options import Format
from skerry.node.cli.output import message_to_dict, print_json
from skerry.node.cli.view import plain_lines, render, summary_line
from skerry.node.control_client import ControlClient
from skerry.proto import control_pb2 as pb

VIEW_SECONDS = 0.5
LINE_SECONDS = 2.0


def watch(client: ControlClient, output: Format = Format.TEXT) -> None:
    """Show the status until the run is finished; raises SK-DMN-001 when the daemon goes away.

    On a terminal one view is drawn over and over; elsewhere each change is one line.
    """
    if output is Format.TEXT and sys.stdout.isatty():
        _watch_terminal(client)
    else:
        _watch_lines(client, output)


def show(status: pb.StatusReply) -> None:
    """Print one status: the view on a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        Console().print(render(status))
        return
    for line in plain_lines(status):
        typer.echo(line)


def _watch_terminal(client: ControlClient) -> None:
    status = client.status()
    with Live(render(status), console=Console(), auto_refresh=False) as live:
        while not status.run.finished:
            time.sleep(VIEW_SECONDS)
            status = client.status()
            live.update(render(status), refresh=True)


def _watch_lines(client: ControlClient, output: Format) -> None:
    last = ""
    while True:
        status = client.status()
        if output is Format.JSON:
            print_json(message_to_dict(status))
        elif (line := summary_line(status)) != last:
            typer.echo(line)
            last = line
        sys.stdout.flush()
        if status.run.finished:
            return
        time.sleep(LINE_SECONDS)
