"""Files of peers and topologies: what they mean, and what is said of mistakes."""

import pytest

from skerry.compression.activations.codec import ActivationSpec
from skerry.pipeline.planning.problem import Problem
from skerry.pipeline.planning.swarm_file import (
    block_flops,
    joined,
    payload_bytes,
    problem_of,
    read_swarm_file,
)
from skerry.protocol.errors import ConfigError
from skerry.protocol.manifest import ModelSection, RingSection

MODEL = "[model]\nlayers = 6\nd_model = 64\n"
PEERS = """
[[peers]]
name = "office"
count = 2
memory = "24GB"
tflops = 20
upload = "50mbit"
download = "250mbit"
site = "berlin"
[[peers]]
name = "laptop"
memory = "2GB"
forward = 900.0
backward = 300.0
upload = "10mbit"
site = "paris"
"""
LINKS = """
[[links]]
a = "berlin"
b = "paris"
latency = "12ms"
bandwidth = "300mbit"
[same_site]
latency = "1ms"
bandwidth = "1gbit"
"""


def problem(text: str) -> Problem:
    return problem_of(read_swarm_file("swarm.toml", text))


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        problem(text)
    return error.value


def test_peers_and_links_become_a_problem() -> None:
    found = problem(MODEL + PEERS + LINKS)
    assert [peer.name for peer in found.peers] == ["office-1", "office-2", "laptop"]
    office, _, laptop = found.peers
    assert office.memory == 24 * 10**9
    assert office.upload == 50e6 / 8
    assert office.forward == pytest.approx(3 * office.backward)
    assert (laptop.forward, laptop.backward) == (900.0, 300.0)
    assert laptop.domain == "paris"
    assert found.network.latency_NN[0, 2] == found.network.latency_NN[2, 1] == 0.012
    assert found.network.latency_NN[0, 1] == 0.001
    assert found.network.bandwidth_NN[0, 2] == 300e6 / 8
    assert found.traffic.per_ring == 8
    assert found.traffic.microbatch_tokens == 128
    assert found.model.blocks == 6


def test_the_peers_of_one_file_are_joined_by_the_links_of_another() -> None:
    both = joined(
        read_swarm_file("peers.toml", PEERS + "[plan]\nslots = 3\n"),
        read_swarm_file("sites.toml", MODEL + LINKS),
    )
    whole = problem(MODEL + PEERS + LINKS + "[plan]\nslots = 3\n")
    found = problem_of(both)
    assert found.peers == whole.peers
    assert found.limits == whole.limits
    assert (found.network.latency_NN == whole.network.latency_NN).all()


@pytest.mark.parametrize(
    ("peers", "topology", "message"),
    [
        (PEERS, PEERS, "peers are in both files"),
        (PEERS + LINKS, LINKS, "links are in both files"),
        (PEERS + "[plan]\n", LINKS + "[plan]\n", r"\[plan\] is in both files"),
    ],
)
def test_nothing_may_be_given_twice(peers, topology, message) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        joined(read_swarm_file("p", peers), read_swarm_file("t", topology))
    assert error.value.code == "SK-CFG-002"


def test_a_run_file_brings_its_model_and_its_batch(manifest) -> None:
    found = problem_of(read_swarm_file("peers.toml", PEERS), manifest)
    assert found.model.blocks == manifest.model.layers
    assert found.traffic.per_ring == manifest.inner.batch_size
    with pytest.raises(ConfigError, match="the model is in the run file"):
        problem_of(read_swarm_file("peers.toml", MODEL + PEERS), manifest)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("peers = [", "SK-CFG-003", "swarm.toml is not TOML"),
        (MODEL, "SK-CFG-002", r"0 \[\[peers\]\], allowed 1 to 2048"),
        (PEERS, "SK-CFG-002", "no model: add"),
        (MODEL + PEERS.replace("count = 2", "count = 5000"), "SK-CFG-002", "peers.0.count"),
        (MODEL + PEERS.replace("tflops", "tflop"), "SK-CFG-001", "tflops"),
        (MODEL + PEERS.replace("tflops = 20\n", ""), "SK-CFG-002", "office: give tflops, or"),
        (MODEL + PEERS.replace("forward = 900.0\n", ""), "SK-CFG-002", "laptop: give tflops, or"),
        (MODEL + PEERS.replace('"24GB"', '"much"'), "SK-CFG-002", "needs a number and a unit"),
        (MODEL + PEERS.replace('"laptop"', '"office-1"'), "SK-CFG-002", "two peers are named"),
        (MODEL + PEERS.replace('"10mbit"', '"0mbit"'), "SK-CFG-002", "peers.1.upload"),
        (MODEL + PEERS.replace("paris", "pairs") + LINKS, "SK-CFG-002", "to site 'pairs'; known"),
        (
            MODEL + PEERS.replace('upload = "10mbit"\n', ""),
            "SK-CFG-002",
            "how fast laptop sends to office-1 is not known",
        ),
    ],
)
def test_mistakes_are_named(text, code, message) -> None:
    error = refused(text)
    assert error.code == code
    assert pytest.raises(ConfigError, match=message).matches(error)


@pytest.mark.parametrize("values", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("dim", [0, 16])
def test_payloads_are_as_long_as_the_codec_makes_them(values, dim) -> None:
    model = ModelSection.model_validate({"d_model": 64, "subspace": {"dim": dim}})
    spec = ActivationSpec(values, width=64, subspace_dim=dim)
    assert payload_bytes(model, RingSection(activations=values), 7) == spec.payload_bytes(7)


def test_a_block_s_operations_are_those_of_its_matrices_and_of_attention() -> None:
    model = ModelSection(d_model=1024, heads=16, kv_heads=16, ffn_dim=4096, context=2048)
    matrices = 2 * (4 * 1024**2 + 3 * 1024 * 4096)
    assert block_flops(model) == pytest.approx(matrices + 2 * 2048 * 1024, rel=1e-3)
