"""What an owner may order through the page: asked for twice, and hidden from everyone else."""

import json
from collections.abc import Callable, Iterator

import pytest
from page_server import PageServer
from reader import Reader
from simulated_swarm import Shape, SimulatedSwarm

from skerry.node.page import models as m

pytestmark = pytest.mark.browser
Read = Callable[..., Reader]
PHONE = {"width": 360, "height": 740}


@pytest.fixture
def swarm() -> SimulatedSwarm:
    return SimulatedSwarm(Shape())


@pytest.fixture
def server(swarm: SimulatedSwarm) -> Iterator[PageServer]:
    """A page whose reader may order everything; the fourth peer was removed before."""
    answers = swarm.answers()
    run = swarm.run()
    assert run.run is not None
    header = run.run.model_copy(
        update={"may_order": True, "outer_lr": 0.7, "outer_lr_ordered": True, "pending_orders": 1}
    )
    answers["run"] = run.model_copy(update={"run": header})
    rows = peers_in(answers)
    rows[3] = rows[3].model_copy(update={"state": "removed", "removed_reason": "too slow"})
    put_peers(answers, rows)
    with PageServer(answers) as server:
        yield server


def peers_in(answers: dict[str, m.Answer]) -> list[m.Peer]:
    table = answers["peers"]
    assert isinstance(table, m.PeersAnswer)
    return list(table.peers)


def put_peers(answers: dict[str, m.Answer], rows: list[m.Peer]) -> None:
    answers["peers"] = answers["peers"].model_copy(update={"peers": tuple(rows)})


def obey(server: PageServer, path: str) -> None:
    server.answers[path] = m.OrderAnswer(as_of=1.0, served_from="x", sequence=1, peer=None)


def show(reader: Reader, peer: str) -> None:
    reader.page.click(f"#peers-table tr[data-peer='{peer}'] th button")


def test_peer_is_removed_with_a_reason_by_keyboard(
    read: Read, server: PageServer, swarm: SimulatedSwarm
) -> None:
    peer = swarm.ids[2]
    obey(server, f"peers/{peer}/remove")
    reader = read(server.url)
    page = reader.open()
    show(reader, peer)
    page.focus("#detail-body button.danger")
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog", name=f"Remove {peer[-6:]} from the run?").is_visible()
    assert server.told == []  # nothing goes out before it is confirmed
    page.focus("#confirm-reason")
    page.keyboard.type("its uplink is too slow")
    assert reader.violations() == []
    page.keyboard.press("Enter")
    page.wait_for_selector("#confirm", state="hidden")
    assert server.told == [f"peers/{peer}/remove"]
    assert json.loads(server.wishes[0]) == {"reason": "its uplink is too slow"}
    reader.check_clean()


def test_question_can_be_taken_back(read: Read, server: PageServer, swarm: SimulatedSwarm) -> None:
    reader = read(server.url)
    page = reader.open()
    show(reader, swarm.ids[2])
    page.click("#detail-body button.danger")
    page.keyboard.press("Escape")
    page.wait_for_selector("#confirm", state="hidden")
    page.click("#detail-body button.danger")
    page.click("#confirm-no")
    page.wait_for_selector("#confirm", state="hidden")
    assert server.told == []


def test_removed_peer_says_why_and_is_let_in_again(
    read: Read, server: PageServer, swarm: SimulatedSwarm
) -> None:
    peer = swarm.ids[3]
    obey(server, f"peers/{peer}/readmit")
    reader = read(server.url, viewport=PHONE)
    page = reader.open()
    show(reader, peer)
    assert "too slow" in reader.text("#detail-body")
    page.click("text=Let it in again")
    assert page.locator("#confirm-reason").is_hidden()
    page.click("#confirm-yes")
    page.wait_for_selector("#confirm", state="hidden")
    assert server.told == [f"peers/{peer}/readmit"]
    reader.check_clean()


def test_alpha_is_shown_and_changed(read: Read, server: PageServer) -> None:
    obey(server, "outer-lr")
    reader = read(server.url)
    page = reader.open()
    assert reader.text("#alpha-words") == (
        "Outer learning rate 0.7, by order of an owner; 1 order waits for a commit"
    )
    page.click("#alpha summary")
    assert reader.violations() == []
    page.fill("#alpha-value", "0.5")
    page.keyboard.press("Enter")
    page.click("#confirm-yes")
    page.wait_for_selector("#confirm", state="hidden")
    page.click("#alpha-usual")
    page.click("#confirm-yes")
    page.wait_for_selector("#confirm", state="hidden")
    assert server.told == ["outer-lr", "outer-lr"]
    assert [json.loads(wish) for wish in server.wishes] == [{"value": 0.5}, {"value": None}]
    reader.check_clean()


def test_refusal_is_shown_and_can_be_tried_again(read: Read, server: PageServer) -> None:
    reader = read(server.url)
    page = reader.open()
    server.answers["outer-lr"] = m.Problem(
        status=409, title="SK-OWN-002: it has ended", detail="Look."
    )
    page.click("#alpha summary")
    page.fill("#alpha-value", "0.5")
    page.keyboard.press("Enter")
    page.click("#confirm-yes")
    reader.wait_for_text("#confirm-result", "SK-OWN-002: it has ended")
    assert page.locator("#confirm-yes").is_enabled()
    obey(server, "outer-lr")
    page.click("#confirm-yes")
    page.wait_for_selector("#confirm", state="hidden")


def test_other_readers_see_what_holds_but_no_way_to_change_it(
    read: Read, swarm: SimulatedSwarm
) -> None:
    with PageServer(swarm.answers()) as server:
        reader = read(server.url)
        page = reader.open()
        assert reader.text("#alpha-words") == "Outer learning rate 1, as the run file says"
        assert page.locator("#alpha").is_hidden()
        show(reader, swarm.ids[2])
        assert page.locator("#detail-body button.danger").count() == 0


def test_nobody_is_offered_to_remove_the_owner(
    read: Read, server: PageServer, swarm: SimulatedSwarm
) -> None:
    rows = [peer.model_copy(update={"owner": True}) for peer in peers_in(server.answers)]
    put_peers(server.answers, rows)
    reader = read(server.url)
    page = reader.open()
    show(reader, swarm.ids[2])
    assert page.locator("#detail-body button.danger").count() == 0
