import os

import pytest
from run_world import OWNER, manifest_in

from skerry.node.home import Home
from skerry.node.run.kept import kept_run, kept_runs
from skerry.node.run.store import RunStore
from skerry.protocol.errors import ConfigError
from skerry.protocol.messages import Kind


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def keep(home: Home, tmp_path, rounds: int, at: float) -> str:
    manifest = manifest_in(tmp_path, rounds=rounds)
    store = RunStore(home.run(manifest.run_id))
    store.save_manifest(OWNER.sign(Kind.MANIFEST, manifest.canonical()), "the-token")
    for file in home.run(manifest.run_id).folder.iterdir():
        os.utime(file, (at, at))
    return manifest.run_id


def test_the_newest_is_gone_on_with_unless_another_is_named(home, tmp_path) -> None:
    old, new = keep(home, tmp_path, 5, 100.0), keep(home, tmp_path, 6, 200.0)
    assert [one.run_id for one in kept_runs(home)] == [new, old]
    assert kept_run(home, "") == new
    assert kept_run(home, old[:6]) == old
    with pytest.raises(ConfigError, match="SK-CFG-004: 2 runs are meant by 'small'"):
        kept_run(home, "small")


def test_a_home_without_runs_says_so(home) -> None:
    with pytest.raises(ConfigError, match="SK-CFG-004: there is none; this home keeps no run"):
        kept_run(home, "")
    with pytest.raises(ConfigError, match="0 runs are meant by 'x'"):
        kept_run(home, "x")


def test_a_run_without_its_manifest_is_not_kept(home, tmp_path) -> None:
    run_id = keep(home, tmp_path, 5, 100.0)
    home.run(run_id).manifest_file.write_bytes(b"damaged")
    (home.runs / "not-a-run").mkdir()
    assert kept_runs(home) == []
