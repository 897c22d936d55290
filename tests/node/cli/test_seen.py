"""What was seen of a daemon grows with each question; no line counts twice and none is missed."""

from moments import RUN_ID, START, line, rounds

from skerry.node.cli import seen as seen_module
from skerry.node.cli.seen import Seen
from skerry.node.control_client import ControlClient
from skerry.proto import control_pb2 as pb


def losses(seen: Seen) -> tuple[float, ...]:
    return seen.moment().figures.losses


def test_first_question_takes_the_past_and_later_ones_what_is_new(home, control) -> None:
    control.in_run()
    control.lines = rounds(2)
    seen = Seen()
    with ControlClient(home.control_socket) as client:
        seen.ask(client)
        assert losses(seen) == (4.75, 4.5)
        seen.ask(client)
        control.lines = rounds(3)
        seen.ask(client)
    assert losses(seen) == (4.75, 4.5, 4.25)
    asked = [request.last for request in control.asked if isinstance(request, pb.LogsRequest)]
    assert asked[0] > asked[1] == asked[2]


def test_a_burst_of_lines_is_taken_as_far_as_it_is_given(home, control, monkeypatch) -> None:
    monkeypatch.setattr(seen_module, "_NEW_LINES", 4)
    control.in_run()
    control.lines = rounds(1)
    seen = Seen()
    with ControlClient(home.control_socket) as client:
        seen.ask(client)
        control.lines = rounds(9)
        seen.ask(client)
    assert losses(seen) == (4.75, 2.75)


def test_another_run_begins_anew(home, control) -> None:
    control.in_run()
    control.lines = [line("entered", run=RUN_ID, name="first"), *rounds(2)]
    seen = Seen()
    with ControlClient(home.control_socket) as client:
        seen.ask(client)
        control.status.run.run_id = "ef" * 32
        control.lines += [line("entered", START + 90, run="ef" * 32, name="next"), *rounds(1)]
        seen.ask(client)
        assert losses(seen) == (4.75,)
        control.status.ClearField("run")
        seen.ask(client)
    assert losses(seen) == ()
    assert not seen.moment().status.HasField("run")
