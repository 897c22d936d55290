"""Settings read again: what takes effect, and what is said to wait."""

from skerry.node.config import NodeConfig
from skerry.node.reload import LIVE, change_of


def config(**sections) -> NodeConfig:
    return NodeConfig.model_validate(sections)


def test_nothing_changed() -> None:
    change = change_of(NodeConfig(), NodeConfig())
    assert (change.config, change.live, change.waiting) == (NodeConfig(), (), ())


def test_live_settings_take_effect_and_others_wait() -> None:
    new = config(
        log={"level": "debug"},
        heartbeat={"interval": "2s"},
        listen={"port": 4001, "announce": ["/ip4/203.0.113.7/tcp/4001"]},
        compute={"threads": 3},
        bandwidth={
            "max_upload": "20mbit",
            "max_download": "50mbit",
            "quiet_hours": "18:00-23:00",
            "quiet_upload": "2mbit",
            "quiet_download": "5mbit",
        },
    )
    change = change_of(NodeConfig(), new)
    assert set(change.live) == LIVE
    assert set(change.waiting) == {"listen.port", "compute.threads"}
    assert change.config.log.level == "debug"
    assert change.config.heartbeat.interval == 2.0
    assert change.config.listen == new.listen.model_copy(update={"port": 0})
    assert change.config.compute == NodeConfig().compute


def test_what_waits_is_said_again_until_it_is_taken_back() -> None:
    waiting = config(compute={"threads": 3})
    first = change_of(NodeConfig(), waiting)
    assert change_of(first.config, waiting).waiting == ("compute.threads",)
    assert change_of(first.config, NodeConfig()).waiting == ()


def test_live_keys_exist() -> None:
    sections = NodeConfig().model_dump()
    assert {f"{s}.{k}" for s, values in sections.items() for k in values} >= LIVE
