"""The smallest run worth training, as the text of a run file, for every test that needs one."""

import json
from pathlib import Path

_SETTINGS: dict[str, dict[str, object]] = {
    "": {"name": "tiny", "seed": 0, "rounds": 1, "standby": []},
    "model": {
        "layers": 1,
        "d_model": 32,
        "heads": 2,
        "kv_heads": 1,
        "ffn_dim": 64,
        "context": 32,
        "vocab_size": 256,
    },
    "data": {"source": "text", "path": "", "validation_batches": 1, "validation_every": 2},
    "inner": {"steps": 2, "batch_size": 2, "lr": 2e-3, "warmup_steps": 20},
    "round": {"deadline_min": "5s", "deadline_max": "10m", "grace": "5s", "replay": 6},
    "peers": {"min": 1},
}


def tiny_run_file(text: Path, **changes: object) -> str:
    """Return a run file over the text at ``text``; ``changes`` are keys of any section."""
    left = {"path": str(text), **changes}
    lines = []
    for section, defaults in _SETTINGS.items():
        lines += [f"[{section}]"] if section else []
        lines += [
            f"{key} = {json.dumps(left.pop(key, value))}"  # also TOML, but for booleans and objects
            for key, value in defaults.items()
        ]
    assert not left, f"no such key: {sorted(left)}"
    return "\n".join(lines) + "\n"
