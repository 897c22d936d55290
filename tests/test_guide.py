"""The user guide: every block says how it is tried, and what can be tried is tried.

Pages that start daemons are tried by ``pytest -m chaos tests/test_guide.py -n 0``.
"""

import re
import tomllib

import pytest
from guide_pages import GUIDE, PAGES, WHY_UNTRIED, Block, Story, blocks_of, pattern_of

from skerry.node.config import NodeConfig
from skerry.protocol.error_catalog import CATALOG
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import parse_run_file

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language == "bash"]
TOML = [block for block in BLOCKS if block.language == "toml"]
QUICK = [block for block in SHELL if block.machines == ["any"]]
STORIES = sorted({block.page for block in SHELL if block.machines and block not in QUICK})


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_block_of_commands_says_how_it_is_tried(block: Block) -> None:
    assert bool(block.machines) != (block.marks.get("untried") in WHY_UNTRIED)
    assert block.marks.keys() <= {"on", "untried", "until", "wait"}


@pytest.mark.parametrize("block", TOML, ids=str)
def test_every_file_is_one_that_skerry_takes(block: Block) -> None:
    assert block.machines and block.marks.keys() == {"file", "on"}
    if block.marks["file"].endswith("config.toml"):
        NodeConfig.model_validate(tomllib.loads(block.text))
    else:
        parse_run_file(block.text, PeerId("12D3KooWExample"))


def test_every_page_is_in_the_table() -> None:
    table = (GUIDE / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES if f"]({page})" not in table] == ["README.md"]


def test_every_code_of_the_guide_exists() -> None:
    text = "".join((GUIDE / page).read_text(encoding="utf-8") for page in PAGES)
    codes = set(re.findall(r"SK-[A-Z]+-\d+", text))
    assert len(codes) >= 5
    assert codes <= set(CATALOG)


def test_an_ellipsis_stands_for_anything_and_nothing_else_does() -> None:
    assert pattern_of("page http://…/\nrun …\n").fullmatch("page http://a:1/\nrun b\nc")
    assert not pattern_of("run [a]").fullmatch("run a")


@pytest.mark.parametrize("block", QUICK, ids=str)
def test_commands_without_a_daemon(block: Block) -> None:
    with Story() as story:
        story.try_block(block)


@pytest.mark.chaos
@pytest.mark.timeout(3600)  # a page has many blocks, each with a patience of its own
@pytest.mark.parametrize("page", STORIES)
def test_page_with_daemons(page: str) -> None:
    with Story() as story:
        for block in [*prologue(page), *blocks_of(page)]:
            if block.machines != ["any"]:
                story.try_block(block)


def prologue(page: str) -> list[Block]:
    """Return what a page takes for granted: the run of the quick start."""
    begins = "init" in "".join(block.text for block in blocks_of(page))
    start = [block for block in blocks_of("quick-start.md") if block.machines == ["here"]]
    return [] if begins or page == "service.md" else start[:2]
