"""Does the model fit: the estimate, and where the free memory is read from."""

from pathlib import Path

import pytest

from skerry.pipeline import capacity
from skerry.pipeline.capacity import available_bytes, check_memory, needed_bytes
from skerry.protocol.errors import ComputeError
from skerry.protocol.layout import layout_of

GIB = 2**30


def test_what_fits_passes_and_what_does_not_names_both_sizes(manifest):
    needed = needed_bytes(manifest)
    check_memory(manifest, needed)
    check_memory(manifest, None)
    with pytest.raises(ComputeError, match=r"needs about 0\.0 GiB, 0\.0 GiB are free") as error:
        check_memory(manifest, needed - 1)
    assert error.value.code == "SK-MEM-001"


def test_parameters_gradients_and_activations_count(manifest):
    state = 20 * sum(spec.numel for spec in layout_of(manifest.model))
    assert state < needed_bytes(manifest)
    inner = manifest.inner.model_copy(update={"batch_size": 2 * manifest.inner.batch_size})
    doubled = needed_bytes(manifest.model_copy(update={"inner": inner}))
    assert doubled - state == 2 * (needed_bytes(manifest) - state)


def test_an_exchange_counts_where_one_shard_is_most_of_the_model(manifest):
    model = manifest.model.model_copy(update={"vocab_size": 1_000_000, "d_model": 1024})
    inner = manifest.inner.model_copy(update={"batch_size": 1})
    needed = needed_bytes(manifest.model_copy(update={"model": model, "inner": inner}))
    sizes = [spec.numel for spec in layout_of(model)]
    assert needed == 16 * sum(sizes) + 12 * max(sizes)


@pytest.mark.parametrize("feedback", ["fp32", "bf16"])
def test_error_feedback_is_not_kept_in_memory(manifest, feedback):
    codec = manifest.codec.model_copy(update={"feedback": feedback})
    other = manifest.model_copy(update={"codec": codec})
    assert needed_bytes(other) == needed_bytes(manifest)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB free and no control groups."""
    root = tmp_path / "cgroup"
    root.mkdir()
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {8 * 2**20} kB\n")
    monkeypatch.setattr(capacity, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(capacity, "_CGROUP_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(capacity, "_CGROUP_ROOT", root)
    monkeypatch.setattr(capacity, "_V1_LIMIT", root / "memory" / "memory.limit_in_bytes")
    return tmp_path


def test_free_memory_is_what_the_kernel_says(system):
    assert available_bytes() == 8 * GIB


@pytest.mark.parametrize(("group", "limit"), [("", 3), ("a", 2), ("a/b", 2)])
def test_the_lowest_limit_of_the_groups_counts(system, group, limit):
    (system / "self").write_text(f"1:name=x:/other\n0::/{group}\n")
    (system / "cgroup" / "a" / "b").mkdir(parents=True)
    (system / "cgroup" / "memory.max").write_text(f"{3 * GIB}\n")
    (system / "cgroup" / "a" / "memory.max").write_text(f"{2 * GIB}\n")
    (system / "cgroup" / "a" / "b" / "memory.max").write_text("max\n")
    assert available_bytes() == limit * GIB


def test_version_1_limits_count(system):
    (system / "cgroup" / "memory").mkdir()
    (system / "cgroup" / "memory" / "memory.limit_in_bytes").write_text(f"{5 * GIB}\n")
    assert available_bytes() == 5 * GIB


def test_without_proc_the_c_library_is_asked_and_may_not_know(system, monkeypatch):
    (system / "meminfo").unlink()
    monkeypatch.setattr(capacity.os, "sysconf", {"SC_AVPHYS_PAGES": 7, "SC_PAGE_SIZE": 10}.get)
    assert available_bytes() == 70

    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(capacity.os, "sysconf", unknown)
    assert available_bytes() is None
