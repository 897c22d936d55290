"""The catalog of errors: whole, used, and the same on both sides of a process border."""

import re
from pathlib import Path

import pytest

from skerry.protocol.error_catalog import CATALOG, FAMILY_TITLES
from skerry.protocol.errors import FAMILIES, DaemonError, ProtocolError, family_of, from_code

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "compression", "pipeline", "recovery", "node")
CODE = re.compile(r"\bSK-[A-Z]+-\d{3}\b")
SENTENCE = re.compile(r"[A-Z][^|\n]*[^ .|\n]\.")
"""A cell of a table in docs/errors.md: one or more sentences, no column mark, no line break."""


@pytest.mark.parametrize("code", CATALOG)
def test_every_code_has_a_cause_and_a_fix(code: str) -> None:
    assert SENTENCE.fullmatch(CATALOG[code].cause)
    assert SENTENCE.fullmatch(CATALOG[code].fix)
    assert CATALOG[code].cause != CATALOG[code].fix


def test_every_code_belongs_to_a_family() -> None:
    assert {family_of(code) for code in CATALOG} == set(FAMILIES) == set(FAMILY_TITLES)


def test_codes_of_the_source_are_those_of_the_catalog() -> None:
    assert codes_in_source() == set(CATALOG)


def codes_in_source() -> set[str]:
    """Every code that a module of ours names, apart from the catalog itself and its examples."""
    modules = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in modules if path.stem != "error_catalog"]
    assert len(texts) > 100
    return {code for text in texts for code in CODE.findall(text)}


@pytest.mark.parametrize("code", CATALOG)
def test_an_error_crosses_a_process_border_unchanged(code: str) -> None:
    error = from_code(code, "what happened")
    assert type(error) is FAMILIES[family_of(code)]
    assert (error.code, error.detail, error.fix) == (code, "what happened", CATALOG[code].fix)


@pytest.mark.parametrize("code", ["SK-NEW-001", "SK-NET-999", "SK-NET", ""])
def test_an_unknown_code_is_a_fault_of_the_other_side(code: str) -> None:
    error = from_code(code, "what happened")
    assert type(error) is DaemonError
    assert (error.code, error.detail) == ("SK-DMN-006", f"{code}: what happened")


def test_an_unknown_refusal_stays_a_refusal() -> None:
    error = from_code("SK-PRO-999", "what happened")
    assert isinstance(error, ProtocolError)
    assert (error.code, error.reason) == ("SK-PRO-004", "remote")
