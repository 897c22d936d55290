"""What the tests of the command line share."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skerry.node.cli.main import app
from skerry.protocol.errors import SkerryError

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def invoke(home):
    """Run a command on the home and return its output; a coded error is raised as it is."""

    def run(*arguments: str):
        result = CliRunner().invoke(app, [*arguments, "--home", str(home.path)])
        if isinstance(result.exception, SkerryError):
            raise result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    return run
