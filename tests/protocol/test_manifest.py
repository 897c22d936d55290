"""The run manifest: validated, canonical, hashed; errors that name the key."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.errors import ConfigError
from skerry.protocol.ids import PeerId, content_hash
from skerry.protocol.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    OuterSection,
    parse_canonical,
    parse_run_file,
)

STANDBY = PeerId("12D3KooWSrKnMZUcSxK8G7wmBbXdU8nFEfWGhLu6H8xjn8LmCSJb")
OWNER = PeerId("12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq")


def error_of(call, *args) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        call(*args)
    return caught.value


def test_an_empty_file_is_the_default_run():
    assert parse_run_file("", OWNER) == Manifest(owner=OWNER)


def test_settings_and_units_are_read():
    text = """
    name = "islands"
    rounds = 40
    [model]
    layers = 2
    [round]
    grace = "1500ms"
    deadline_max = "2m"
    [admission]
    mode = "open"
    """
    manifest = parse_run_file(text, OWNER)
    assert (manifest.name, manifest.rounds, manifest.model.layers) == ("islands", 40, 2)
    assert (manifest.round.grace, manifest.round.deadline_max) == (1.5, 120.0)
    assert manifest.admission.mode == "open"


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("nmae = 'x'", "SK-CFG-001", "did you mean 'name'?"),
        ("[model]\nlayrs = 1", "SK-CFG-001", "unknown key 'model.layrs'; did you mean 'layers'?"),
        ("[codec]\nqqqq = 1", "SK-CFG-001", "known keys: values, k, chunk"),
        ("owner = 'me'", "SK-CFG-001", "unknown key 'owner'"),
        ("[model]\nlayers = 0", "SK-CFG-002", "model.layers"),
        ("[model]\nlayers = 'two'", "SK-CFG-002", "got 'two'"),
        ("[model]\nd_model = 12\nheads = 8", "SK-CFG-002", "even multiple of heads"),
        ("[model]\nkv_heads = 3", "SK-CFG-002", "multiple of kv_heads"),
        ("[codec]\nvalues = 'sgin'", "SK-CFG-002", "'sign', 'sym2' or 'fp16' (got 'sgin')"),
        ("[codec]\nchunk = 64", "SK-CFG-002", "1024, 4096 or 16384 (got 64)"),
        ("[codec]\nk = 0", "SK-CFG-002", "codec.k"),
        ("[codec]\nk = 2000\nchunk = 1024", "SK-CFG-002", "must not exceed codec.chunk: 2000 of"),
        ("[codec]\nerror_decay = 1.5", "SK-CFG-002", "codec.error_decay"),
        ("[codec]\nfeedback = 'fp8'", "SK-CFG-002", "'fp32' or 'bf16' (got 'fp8')"),
        ("[codec]\nname = 'topk-sign'", "SK-CFG-001", "unknown key 'codec.name'"),
        ("[round]\ngrace = '5 parsecs'", "SK-CFG-002", "needs a number and a unit"),
        ("[round]\ndeadline_min = '9s'\ndeadline_max = '5s'", "SK-CFG-002", "must not exceed"),
        ("[peers]\nmin = 9\nmax = 3", "SK-CFG-002", "must not exceed"),
        ("[data]\nsource = 'text'", "SK-CFG-002", "data.path is needed"),
        ("name = 'a b'", "SK-CFG-002", "name"),
        ("[inner]\nlr = nan", "SK-CFG-002", "inner.lr"),
        ("name = ", "SK-CFG-003", "not TOML"),
        ("standby = ['me']", "SK-CFG-002", "skerry keys prints a node's"),
        (f"standby = ['{STANDBY}', '{STANDBY}']", "SK-CFG-002", "names a key twice"),
        (f"standby = ['{OWNER}']", "SK-CFG-002", "must not name the owner"),
        (f"standby = {[STANDBY] * 9}", "SK-CFG-002", "standby"),
        (f"[admission]\nallowed = ['{STANDBY}']", "SK-CFG-002", "no meaning with mode 'invite'"),
        ("[admission]\nmode = 'allow-list'\nallowed = ['me']", "SK-CFG-002", "skerry keys"),
        (
            f"[admission]\nmode = 'allow-list'\nallowed = {[STANDBY] * 2}",
            "SK-CFG-002",
            "names a peer twice",
        ),
    ],
)
def test_a_wrong_file_is_answered_with_the_key_and_the_fix(text, code, part):
    error = error_of(parse_run_file, text, OWNER)
    assert error.code == code
    assert part in error.detail


def test_a_list_of_peers_always_holds_the_owners():
    listed = parse_run_file("[admission]\nmode = 'allow-list'", OWNER)
    assert listed.allowed == {OWNER}
    both = parse_run_file(f"standby = ['{STANDBY}']\n[admission]\nmode = 'allow-list'", OWNER)
    assert both.allowed == {OWNER, STANDBY}
    assert parse_run_file("", OWNER).allowed is None


seeds = st.integers(0, 2**63 - 1)


@given(seeds, st.integers(0, 1000), st.floats(0.5, 1e6), st.integers(1, 4096))
def test_canonical_bytes_come_back_as_the_same_manifest(seed, rounds, grace, k):
    text = f"seed = {seed}\nrounds = {rounds}\n[round]\ngrace = {grace!r}\n[codec]\nk = {k}\n"
    manifest = parse_run_file(text, OWNER)
    body = manifest.canonical()
    assert parse_canonical(body) == manifest
    assert parse_canonical(body).canonical() == body
    assert manifest.run_id == content_hash(body)
    assert b" " not in body


def test_codec_is_chosen_and_hashed():
    text = "[codec]\nvalues = 'sym2'\nk = 5000\nchunk = 16384\nfeedback = 'bf16'"
    manifest = parse_run_file(text, OWNER)
    codec = manifest.codec
    assert (codec.values, codec.k, codec.chunk, codec.feedback) == ("sym2", 5000, 16384, "bf16")
    assert parse_canonical(manifest.canonical()) == manifest
    one = {parse_run_file(f"[codec]\nvalues = '{v}'", OWNER).run_id for v in ("sign", "fp16")}
    assert len(one) == 2


def test_the_subspace_is_chosen_and_hashed():
    text = "[model]\nd_model = 64\nsubspace = { dim = 8, mode = 'MODE' }"
    wire = parse_run_file(text.replace("MODE", "wire"), OWNER)
    confined = parse_run_file(text.replace("MODE", "reparam"), OWNER)
    assert (wire.model.written_dim, confined.model.written_dim) == (64, 8)
    assert wire.run_id != confined.run_id
    assert parse_canonical(confined.canonical()) == confined


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[model]\nd_model = 64\nsubspace = { dim = 65 }", "65 of 64"),
        ("[model.subspace]\nmode = 'both'", "model.subspace.mode"),
        ("[model.subspace]\nrank = 3", "model.subspace.rank"),
        ("[ring]\nactivations = 'int4'\n[model.subspace]\ndim = 7", "even"),
        ("[ring]\nmicrobatch = 0", "ring.microbatch"),
        ("[ring]\nswap_ratio = 0.6", "ring.swap_ratio"),
        ("[model]\nlayers = 3\n[ring]\nswap_ratio = 0.5", "4 layers"),
        ("[ring]\nhop_min = '1m'", "hop_max"),
        ("[ring]\nattempt_max = '1s'", "attempt_max"),
    ],
)
def test_subspaces_and_rings_that_cannot_be_are_refused(text, part):
    assert part in error_of(parse_run_file, text, OWNER).detail


@given(seeds, seeds)
def test_different_manifests_have_different_run_ids(one, other):
    first, second = Manifest(owner=OWNER, seed=one), Manifest(owner=OWNER, seed=other)
    assert (first.run_id == second.run_id) == (one == other)


def test_other_spellings_of_a_manifest_are_refused():
    body = Manifest(owner=OWNER).canonical()
    spaced = json.dumps(json.loads(body), sort_keys=True).encode()
    shorter = json.dumps({"owner": OWNER, "version": 1}, separators=(",", ":")).encode()
    for wrong in (spaced, shorter, body + b"\n"):
        assert error_of(parse_canonical, wrong).code == "SK-CFG-002"


@given(st.binary(max_size=200))
def test_random_bytes_raise_only_the_config_error(data):
    assert error_of(parse_canonical, data).code.startswith("SK-CFG-")


def test_hostile_json_is_refused():
    assert error_of(parse_canonical, b" " * (MAX_MANIFEST_BYTES + 1)).code == "SK-CFG-002"
    assert error_of(parse_canonical, b"[" * 60_000).code == "SK-CFG-003"
    assert error_of(parse_canonical, b"\xff").code == "SK-CFG-003"


def test_a_manifest_cannot_be_changed():
    manifest = Manifest(owner=OWNER)
    with pytest.raises(ValueError, match="frozen"):
        manifest.seed = 1


def test_a_round_s_text_tokens_follow_from_the_settings():
    text = "[inner]\nsteps = 3\nbatch_size = 5\n[model]\ncontext = 7"
    assert parse_run_file(text.replace("7", "16"), OWNER).max_round_tokens == 3 * 5 * 16


def test_the_outer_learning_rate_changes_once():
    outer = OuterSection(lr=1.0, final_lr=0.65, decay_from_round=10)
    assert [outer.lr_at(r) for r in (0, 9, 10, 11)] == [1.0, 1.0, 0.65, 0.65]
    assert OuterSection(lr=0.8, final_lr=0.1).lr_at(10**6) == 0.8
