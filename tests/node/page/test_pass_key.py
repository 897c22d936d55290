"""The page token's file."""

import stat

import pytest

from skerry.node.page.pass_key import load, load_or_create, same, sign_in_link
from skerry.protocol.errors import ConfigError


def test_is_made_once_and_kept(tmp_path) -> None:
    path = tmp_path / "page.token"
    first = load_or_create(path)
    assert load_or_create(path) == load(path) == first
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_homes_have_two(tmp_path) -> None:
    assert load_or_create(tmp_path / "a") != load_or_create(tmp_path / "b")


@pytest.mark.parametrize("content", ["", "short", "\u00e9" * 40, "x" * 20 + "\x00" + "x" * 20])
def test_file_that_holds_none_is_refused(tmp_path, content) -> None:
    path = tmp_path / "page.token"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(ConfigError, match="SK-KEY-003") as told:
        load_or_create(path)
    assert not content or content not in told.value.detail


def test_file_that_others_can_read_is_refused(tmp_path) -> None:
    path = tmp_path / "page.token"
    load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="SK-KEY-002"):
        load(path)


def test_missing_file_is_told(tmp_path) -> None:
    with pytest.raises(ConfigError, match="SK-KEY-003"):
        load(tmp_path / "page.token")


def test_link_carries_it(tmp_path) -> None:
    path = tmp_path / "page.token"
    token = load_or_create(path)
    assert sign_in_link("http://127.0.0.1:1/", path) == f"http://127.0.0.1:1/?token={token}"


def test_comparison_takes_any_text() -> None:
    assert same("a", "a")
    assert not same("\u00e9", "a")
