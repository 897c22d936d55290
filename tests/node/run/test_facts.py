"""Measurements: what is counted, and by which kind."""

import pytest

from skerry.node.ring.link import Carried
from skerry.node.run.facts import Facts
from skerry.protocol.compute import Progress
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import ShardPayload
from skerry.protocol.rings.frames import Lane

PEER = PeerId("12D3KooWpeer")


def test_progress_is_the_newest_step() -> None:
    facts = Facts()
    facts.progressed(Progress(request=1, step=3, steps=30, loss=5.5, tokens_per_second=12.0))
    assert (facts.step, facts.steps, facts.loss, facts.tokens_per_second) == (3, 30, 5.5, 12.0)


def test_first_validation_loss_is_kept_beside_the_newest() -> None:
    facts = Facts()
    assert facts.validated_round == -1
    facts.validated(0, 5.5)
    facts.validated(5, 4.0)
    assert (facts.val_loss_start, facts.val_loss, facts.validated_round) == (5.5, 4.0, 5)


class TestSentBytes:
    def test_payload_counts_with_what_it_would_have_been_dense(self) -> None:
        facts = Facts(shard_params={"embed": 1000})
        sent = facts.sent_to(PEER, (ShardPayload("embed", "a" * 64, 200), False))
        sent(150)
        sent(50)
        assert facts.sent_bytes == {"payload": 200}
        assert facts.dense_bytes == 4000

    def test_half_a_payload_is_half_of_its_dense_form(self) -> None:
        facts = Facts(shard_params={"embed": 1000})
        facts.sent_to(PEER, (ShardPayload("embed", "a" * 64, 200), False))(100)
        assert facts.dense_bytes == pytest.approx(2000)

    @pytest.mark.parametrize("blob", [(ShardPayload("embed", "a" * 64, 4000), True), None])
    def test_parameters_and_unknown_blobs_are_states(self, blob) -> None:
        facts = Facts(shard_params={"embed": 1000})
        facts.sent_to(PEER, blob)(300)
        assert facts.sent_bytes == {"state": 300}
        assert facts.dense_bytes == 0

    def test_empty_and_unknown_payloads_do_no_harm(self) -> None:
        facts = Facts()
        facts.sent_to(PEER, (ShardPayload("nothing", "a" * 64, 0), False))(0)
        assert facts.dense_bytes == 0


def test_a_ring_counts_by_lane_and_in_all() -> None:
    facts = Facts()
    facts.carried(PEER, Carried(sent=100, lane=Lane.FORWARD))
    facts.carried(PEER, Carried(sent=30, lane=Lane.FORWARD, text_tokens=64))
    facts.carried(PEER, Carried(sent=70, lane=Lane.BACKWARD))
    facts.carried(PEER, Carried(sent=5))
    facts.carried(PEER, Carried(received=40))
    assert (facts.sent_bytes, facts.received_bytes) == ({"ring": 205}, {"ring": 40})
    assert facts.ring_sent == {"forward": 130, "backward": 70, "control": 5}
    assert facts.ring_text_tokens == 64
    assert (facts.traffic[PEER].sent, facts.traffic[PEER].received) == (205, 40)


class TestTraffic:
    def test_bytes_and_refusals_are_kept_by_peer(self) -> None:
        facts = Facts()
        facts.sent_to(PEER, None)(300)
        facts.received_from(PEER, 40)
        facts.received_from(PEER, 2)
        traffic = facts.traffic[PEER]
        assert (traffic.sent, traffic.received, traffic.refused) == (300, 42, 0)

    def test_round_trip_begins_with_the_first_answer_and_follows_the_newest_slowly(self) -> None:
        facts = Facts()
        facts.answered(PEER, 0.1)
        assert facts.traffic[PEER].round_trip_s == pytest.approx(0.1)
        facts.answered(PEER, 0.2)
        assert facts.traffic[PEER].round_trip_s == pytest.approx(0.12)
