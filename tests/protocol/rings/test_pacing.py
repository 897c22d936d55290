import pytest

from skerry.protocol.rings.frames import Pace
from skerry.protocol.rings.pacing import Busy, Flight


def test_as_many_are_on_their_way_as_keep_the_bottleneck_busy():
    flight = Flight(planned=3, most=64)
    assert flight.window == 3
    flight.observe(2.0, Pace(queued_us=0, bottleneck_us=100_000))
    assert flight.window == 21  # one more, whose slots are reserved meanwhile


def test_waiting_in_queues_is_no_reason_to_send_more():
    flight = Flight(planned=3, most=64)
    flight.observe(2.0, Pace(queued_us=1_500_000, bottleneck_us=100_000))
    assert flight.window == 6


@pytest.mark.parametrize("bottleneck_us", [1, 10])
def test_never_more_than_there_are_slots_and_never_none(bottleneck_us):
    flight = Flight(planned=9, most=5)
    assert flight.window == 5
    flight.observe(10.0, Pace(bottleneck_us=bottleneck_us))
    assert flight.window == 5
    slow = Flight(planned=9, most=5)
    slow.observe(0.1, Pace(queued_us=10**9, bottleneck_us=10**9))
    assert slow.window == 1


def test_the_busier_of_processor_and_uplink_is_the_bottleneck():
    busy = Busy()
    assert busy.bottleneck_us == 0
    busy.compute.observe(0.3)
    busy.forward_upload.observe(0.2)
    assert busy.bottleneck_us == 300_000
    busy.backward_upload.observe(0.2)
    assert busy.bottleneck_us == 400_000
