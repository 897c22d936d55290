"""A watched daemon that goes away, hangs, and comes back."""

import pytest
from fake_daemon import FakeControl, serving

from skerry.node.cli import watched as watched_module
from skerry.node.cli.watched import Watched
from skerry.protocol.errors import StateError


def test_a_daemon_that_ends_is_missed_until_it_is_back(home) -> None:
    home.create()
    control = FakeControl()
    control.in_run(text_tokens=7)
    with Watched(home) as watched:
        assert not watched.look()
        assert watched.trouble == "the daemon is not running"
        with serving(home, control):
            assert watched.look()
            assert watched.moment().notice == ""
        assert not watched.look()
        moment = watched.moment()
        assert moment.status.run.text_tokens == 7
        assert moment.notice.startswith("the daemon is not running and is waited for; below")
        with serving(home, control):
            assert watched.look()
        assert watched.trouble == ""


def test_a_daemon_that_hangs_is_not_taken_for_one_that_is_gone(home, control, monkeypatch) -> None:
    monkeypatch.setattr(watched_module, "LOOK_SECONDS", 0.2)
    with Watched(home) as watched:
        assert watched.look()
        control.hang.clear()
        assert not watched.look()
        assert watched.trouble == "the daemon does not answer"


def test_the_end_of_the_run_counts_only_while_the_daemon_answers(home) -> None:
    home.create()
    control = FakeControl()
    control.in_run(finished=True)
    with Watched(home) as watched:
        with serving(home, control):
            assert watched.look()
            assert watched.over
        assert not watched.look()
        assert not watched.over


def test_other_errors_are_passed_on(home, control) -> None:
    import grpc

    control.refusal = (grpc.StatusCode.FAILED_PRECONDITION, "SK-DSK-003: no room")
    with Watched(home) as watched, pytest.raises(StateError, match="SK-DSK-003"):
        watched.look()
