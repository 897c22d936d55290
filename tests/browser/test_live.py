"""The page of real daemons: what it shows is what the API says, through faults and restarts.

One endless run of three daemons; the tests follow it in order, and each leaves it whole.
"""

import json
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile_member import MARKUP, HostileMember
from reader import Reader
from swarm import Peer, Swarm

pytestmark = [pytest.mark.browser, pytest.mark.integration]
Read = Callable[..., Reader]
ROUNDS = """() => {
  const words = document.querySelector('#loss-words').textContent;
  return Number(words.match(/to ([\\d,]+),/)?.[1].replace(',', '') ?? 0);
}"""
"""The newest round that the loss chart shows."""
DEAD = "(peer) => document.querySelector(`tr[data-peer='${peer}'] .chip`)?.textContent === 'dead'"
ALIVE = DEAD.replace("'dead'", "'alive'")
FIRST_PAINT = """() => Math.round(performance.getEntriesByName('first-contentful-paint')[0]
  .startTime)"""


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Yield a swarm without daemons; in the end no process may be left."""
    with Swarm(tmp_path_factory.mktemp("swarm")) as swarm:
        yield swarm
        left = swarm.stop()
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="module")
def trio(swarm: Swarm) -> Iterator[list[Peer]]:
    """Three daemons in an endless run of short rounds; the first one's page keeps its port."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SKERRY_PAGE__PORT", str(free_port()))
        peers = [*swarm.start("a"), *swarm.start("b", "c")]
        swarm.begin(peers, rounds=0, peers=2, steps=20, deadline_max="5s", validation_every=2)
        yield peers


@pytest.fixture(scope="module")
def url(trio: list[Peer]) -> str:
    return trio[0].status().page_url


@pytest.fixture
def reader(read: Read, url: str) -> Reader:
    """A tab in which two rounds are drawn."""
    reader = read(url)
    reader.open()
    reader.wait(f"() => ({ROUNDS})() >= 2")
    return reader


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def api(url: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}api/v1/{path}", timeout=120) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def drawn(reader: Reader) -> int:
    """Return the newest round that the loss chart shows."""
    return int(reader.page.evaluate(ROUNDS))


def test_page_loads_and_every_panel_is_filled(
    reader: Reader, record_property: Callable[[str, object], None]
) -> None:
    page = reader.page
    milliseconds = page.evaluate(FIRST_PAINT)
    record_property("first_contentful_paint_ms", milliseconds)
    print(f"first contentful paint after {milliseconds} ms")
    assert page.locator("#loss-chart canvas").count() == 1
    assert page.locator("#graph-drawing .spot").count() == 3
    assert page.locator("#waterfall-table .bar.compute").count() > 0
    assert page.locator("#peers-table tbody tr").count() == 3
    assert page.locator("#feed-list li").count() > 5
    reader.check_clean()


def test_values_are_those_of_the_api(reader: Reader, url: str, swarm: Swarm) -> None:
    page, answer = reader.page, api(url, "run")
    run = answer["run"]
    assert reader.text("#run-name") == run["name"]
    assert run["run_id"] == swarm.run_id
    assert swarm.run_id.startswith(reader.text("#run-id").removeprefix("run "))
    assert answer["served_from"].endswith(reader.text("#served").split()[3])
    assert f"{run['params']:,} parameters" in reader.text("#tile-tokens-sub")
    done = [row for row in api(url, "rounds")["rounds"] if row["duration_s"] is not None][-1]
    number = done["round"]
    reader.wait(f"() => document.querySelector('[data-round=\"{number}\"]')")
    page.click(f"[data-round='{number}']")
    reader.wait_for_text("#detail-body", f"{done['loss']:.3f} training")
    reader.wait_for_text("#detail-body", f"{done['total_text_tokens']:,} in all")
    assert done["commit"] in reader.text("#detail-body")
    assert page.locator("#detail tbody tr").count() == len(done["contributions"])
    page.keyboard.press("Escape")
    peers = {peer["peer"]: peer for peer in api(url, "peers")["peers"]}
    shown = page.locator("#peers-table tbody tr")
    assert {row.get_attribute("data-peer") for row in shown.all()} == set(peers)
    reader.check_clean()


def test_loss_curve_grows(reader: Reader) -> None:
    before = drawn(reader)
    reader.wait(f"() => ({ROUNDS})() >= {before + 3}")
    reader.check_clean()


def test_reload_keeps_the_history(reader: Reader) -> None:
    before = drawn(reader)
    reader.page.reload()
    reader.wait(f"() => ({ROUNDS})() >= {before}")
    reader.wait_for_text("#loss-words", "Rounds 0 to")
    reader.check_clean()


def test_a_killed_peer_turns_dead_and_its_recovery_is_told(
    reader: Reader, trio: list[Peer]
) -> None:
    first, _, victim = trio
    since = first.mark()
    victim.kill()
    first.wait_for("peer-down", since, peer=victim.peer_id)
    reader.wait(DEAD, victim.peer_id)
    reader.wait_for_text("#timeline-list", f"{victim.peer_id[-6:]} fell silent")
    assert reader.page.locator("#graph-drawing .spot.dead").count() == 1
    victim.restart()
    victim.ready()
    reader.wait(ALIVE, victim.peer_id)
    reader.wait_for_text("#timeline-list", "over after")
    # On a busy machine, others may have seemed to fail as well.
    assert re.search(r"[1-9]\d* failures? recovered", reader.text("#timeline-words"))
    reader.check_clean()


def test_markup_in_a_members_own_words_is_inert(
    reader: Reader, swarm: Swarm, trio: list[Peer]
) -> None:
    page = reader.page
    with HostileMember(swarm.folder / "hostile", swarm.token) as hostile:
        row = f"tr[data-peer='{hostile.peer_id}']"
        page.wait_for_selector(row)
        page.click(f"{row} button")
        reader.wait_for_text("#detail-body", MARKUP)
        assert page.locator("main img, main b:has-text('bold'), dialog img").count() == 0
        page.click("text=Dial it now")
        reader.wait_for_text("#detail-body [role=status]", "Reached in")
        page.keyboard.press("Escape")
    assert page.evaluate("() => globalThis.hacked") is None
    reader.check_clean()


def test_page_comes_back_by_itself_after_its_daemon_was_killed(
    reader: Reader, trio: list[Peer], url: str
) -> None:
    first, before = trio[0], drawn(reader)
    reader.page.evaluate("() => { window.sameDocument = true; }")
    first.kill()
    reader.wait_for_text("#notice-title", "Stale since")
    assert reader.violations() == []
    first.restart()
    first.ready()
    assert first.status().page_url == url
    reader.wait("() => document.body.dataset.link === 'live'")
    reader.wait("() => document.body.dataset.state === 'run'")  # once its compute process is up
    reader.wait(f"() => ({ROUNDS})() > {before}")
    reader.wait_for_text("#loss-words", "Rounds 0 to")  # loaded beside the new stream
    assert reader.page.evaluate("() => window.sameDocument")
    reader.wait_for_text("#timeline-list", "the daemon is back")
    reader.check_clean(lambda text: "ERR_" in text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(read: Read, url: str, scheme: str) -> None:
    reader = read(url, color_scheme=scheme)
    reader.open()
    reader.wait(f"() => ({ROUNDS})() >= 2")
    assert reader.violations() == []
    reader.check_clean()


def test_other_peers_serve_the_same_run(read: Read, trio: list[Peer], swarm: Swarm) -> None:
    """Whoever leads or is asked: each daemon shows the run from where it stands."""
    other = trio[1]
    reader = read(other.status().page_url)
    reader.open()
    assert swarm.run_id.startswith(reader.text("#run-id").removeprefix("run "))
    assert other.peer_id.endswith(reader.text("#served").split()[3])
    assert f"as {other.peer_id[-6:]} sees it" == reader.text("#graph-from")
    reader.check_clean()


def test_join_and_pause_are_for_the_daemons_user(read: Read, trio: list[Peer], url: str) -> None:
    reader = read(url)
    page = reader.open()
    assert page.is_hidden("#join") and page.is_hidden("#pause")
    token = trio[0].home.page_token_file.read_text().strip()
    page.goto(f"{url}?token={token}")
    reader.wait("() => document.body.dataset.link === 'live'")
    assert page.url == url, "the token does not stay in the address bar"
    assert reader.text("#join-command").startswith("skerry join ")
    page.click("#pause")
    reader.wait_for_text("#phase", "paused")
    reader.wait_for_text("#pause", "Resume this node")
    page.click("#pause")
    reader.wait("() => document.querySelector('#phase').textContent !== 'paused'")
    reader.check_clean()


def test_a_finished_run_stays_and_equals_the_api(
    read: Read, trio: list[Peer], swarm: Swarm, url: str
) -> None:
    reader = read(url)
    reader.open()
    for peer in trio:
        peer.client.leave()
    reader.wait("() => document.body.dataset.state === 'no-run'")
    swarm.begin(trio, rounds=3, steps=10)
    swarm.finish(trio, 3)
    reader.wait_for_text("#tile-eta", "done")
    run = api(url, "run")["run"]
    reader.wait_for_text("#tile-val-loss", f"{run['val_loss']:.3f}")
    assert reader.text("#tile-round") == "3 of 3"
    assert reader.text("#tile-tokens") == f"{run['text_tokens']:,}"
    assert reader.text("#tile-loss") == f"{run['loss']:.3f}"
    assert reader.text("#digest").removesuffix("…").endswith(run["state_digest"][:16])
    reader.wait_for_text("#loss-words", "Rounds 0 to 3, 3 replicas")
    reader.check_clean()
