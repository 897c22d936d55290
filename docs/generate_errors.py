"""Write docs/errors.md from the catalog of errors: python docs/generate_errors.py."""

from pathlib import Path

from skerry.protocol.error_catalog import CATALOG, FAMILY_TITLES
from skerry.protocol.errors import FAMILIES, SkerryError, family_of

PAGE = Path(__file__).with_name("errors.md")

_HEAD = """\
<!-- Written by docs/generate_errors.py from protocol/error_catalog.py: change that, not this. -->

# Errors

Every error that skerry shows carries a code, what happened, and what to do about it:

```text
error SK-NET-002: port 4001 is already in use
fix: {fix}
```

`skerry explain SK-NET-002` prints what this page says of a code, and `skerry explain` lists all of
them. The exit code of a command follows from the family of the error, the middle part of its code:

| exit code | family | what is wrong |
|---|---|---|
| 0 | | nothing: the command did what was asked |
| 1 | `DEMO` and everything without a family | see the message |
{families}
| 130 | | interrupted with Ctrl-C; everything that was started has been stopped |
"""

_SECTION = """
## {title}

| code | cause | fix |
|---|---|---|
{rows}
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page as it should be."""
    head = _HEAD.format(fix=CATALOG["SK-NET-002"].fix, families="\n".join(_family_rows()))
    return head + "".join(_section(family, title) for family, title in FAMILY_TITLES.items())


def _family_rows() -> list[str]:
    """Return a row for each exit code that a family has to itself, lowest first."""
    errors = {error.exit_code: error for error in FAMILIES.values() if error is not SkerryError}
    return [_family_row(errors[code]) for code in sorted(errors)]


def _family_row(error: type[SkerryError]) -> str:
    names = " ".join(f"`{name}`" for name, known in FAMILIES.items() if known is error)
    meaning = (error.__doc__ or "").partition(".")[0]
    return f"| {error.exit_code} | {names} | {meaning[0].lower()}{meaning[1:]} |"


def _section(family: str, title: str) -> str:
    rows = [
        f"| {code} | {entry.cause} | {entry.fix} |"
        for code, entry in CATALOG.items()
        if family_of(code) == family
    ]
    return _SECTION.format(title=title, rows="\n".join(rows))


if __name__ == "__main__":
    main()
