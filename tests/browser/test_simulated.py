"""The page against made-up runs: its states, 200 peers, hostile text, readers of all kinds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from page_server import PageServer
from reader import Reader
from simulated_swarm import Shape, SimulatedSwarm

from skerry.node.page import models as m

pytestmark = pytest.mark.browser
Read = Callable[..., Reader]
Serve = Callable[[SimulatedSwarm], PageServer]
PHONE = {"width": 360, "height": 740}
SILENT = m.Problem(status=503, title="The daemon is stopping", detail="Start it again.")
EVIL = '<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script>'


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as servers:
        yield lambda swarm: servers.enter_context(PageServer(swarm.answers()))


@pytest.fixture
def small() -> SimulatedSwarm:
    return SimulatedSwarm(Shape())


def changed(answer: m.RunAnswer, **changes: object) -> m.RunAnswer:
    """Return a run's answer with some fields of its header changed."""
    assert answer.run is not None
    return answer.model_copy(update={"run": answer.run.model_copy(update=changes)})


def order(reader: Reader, column: int) -> list[str]:
    """Return the texts of a column of the peers' table, from top to bottom."""
    cells = f"#peers-table tbody tr > :nth-child({column + 1})"
    return [text.strip() for text in reader.page.locator(cells).all_inner_texts()]


# -- what it shows ---------------------------------------------------------------------------


def test_every_panel_is_filled(read: Read, serve: Serve, small: SimulatedSwarm) -> None:
    reader = read(serve(small).url)
    reader.open()
    assert reader.text("#tile-round") == "41 of 200"
    assert reader.text("#tile-val-loss") == "2.241"
    assert "91 % of the undisturbed 11,600/s" in reader.text("#tile-goodput-sub")
    assert reader.page.locator("#loss-chart canvas").count() == 1
    assert "Rounds 1 to 40, 8 replicas" in reader.text("#loss-words")
    assert reader.page.locator("#graph-drawing .spot").count() == 8
    assert reader.page.locator("#waterfall-table tbody tr").count() == 10
    assert reader.page.locator("#timeline-list li").count() == 5
    assert reader.page.locator("#blocks-table tbody tr").count() == 9
    assert reader.text("#traffic-ratio") == "229\N{MULTIPLICATION SIGN}"
    assert reader.page.locator("#peers-table tbody tr").count() == 8
    assert reader.page.locator("#feed-list li").count() == 57
    assert reader.text("#join-command").startswith("skerry join ")
    reader.check_clean()


def test_ring_is_drawn_and_its_blocks_are_named(read: Read, serve: Serve) -> None:
    reader = read(serve(SimulatedSwarm(Shape(peers=10, ring=4))).url)
    reader.open()
    assert reader.page.locator("#graph-drawing .hop").count() == 1
    row = reader.page.locator("#blocks-table tbody tr", has_text="ring 1")
    assert row.locator("td").count() == 5  # embed, three stages of four blocks, head
    reader.check_clean()


def test_loss_over_wall_time_and_one_replica_brought_out(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    reader = read(serve(small).url)
    page = reader.open()
    page.click("#loss-axis button[data-axis=time]")
    assert page.get_attribute("#loss-axis button[data-axis=time]", "aria-pressed") == "true"
    page.click("#loss-legend button >> nth=0")
    reader.wait("() => document.querySelector('#loss-legend button[aria-pressed=true]')")
    assert page.locator("#peers-table tr.chosen").count() == 1
    page.click("text=Losses as a table")
    reader.wait("() => document.querySelectorAll('#loss-table tbody tr').length === 30")
    reader.check_clean()


def test_events_change_what_is_shown(read: Read, serve: Serve, small: SimulatedSwarm) -> None:
    server = serve(small)
    reader = read(server.url)
    reader.open()
    server.publish("run", changed(small.run(), phase="collecting", waiting_for=(small.ids[3],)))
    reader.wait_for_text("#phase-words", f"waiting for {small.ids[3][-6:]}")
    done = small.rounds[-1].model_copy(update={"loss": 1.999, "duration_s": 14.0})
    server.publish("round", done)
    reader.wait_for_text("#loss-words", "→ 1.999")
    line = m.LogEntry(id=900, time=small.shape.now, event="applied", text="round=41")
    server.publish("log", line, 900)
    reader.wait_for_text("#feed-list li", "round=41")
    peers = (*small.peers[:2], small.peers[2].model_copy(update={"state": "dead"}))
    answer = m.PeersAnswer(as_of=small.shape.now, served_from=small.ids[0], peers=peers)
    server.publish("peers", answer)
    reader.wait_for_text(f'tr[data-peer="{small.ids[2]}"]', "dead")
    assert reader.page.locator("#peers-table tbody tr").count() == 3
    reader.check_clean()


# -- the states of the page ------------------------------------------------------------------


def test_without_a_run_it_says_how_to_begin(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    server = serve(small)
    server.answers["run"] = small.run().model_copy(update={"run": None})
    reader = read(server.url)
    reader.open("no-run")
    assert "skerry join TOKEN" in reader.text("#no-run")
    assert reader.page.is_hidden("#panels")
    server.answers["run"] = small.run()
    server.publish("run", small.run())
    reader.wait("() => document.body.dataset.state === 'run'")
    reader.check_clean()


def test_an_error_is_told_with_its_remedy_and_passes(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    server = serve(small)
    server.answers["run"] = SILENT
    reader = read(server.url)
    reader.open("connecting")
    reader.wait_for_text("#notice", "The daemon is stopping")
    reader.wait_for_text("#notice", "Start it again.")
    server.answers["run"] = small.run()
    reader.page.click("#retry")
    reader.wait("() => document.body.dataset.link === 'live'")
    assert reader.page.is_hidden("#notice")
    reader.check_clean(lambda text: "503" in text)


def test_a_silent_daemon_makes_the_page_stale_until_it_answers(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    server = serve(small)
    reader = read(server.url)
    reader.open()
    reader.wait("() => document.body.dataset.link === 'live'")
    server.answers["run"] = SILENT
    server.cut()
    reader.wait_for_text("#notice-title", "Stale since")
    reader.wait_for_text("#link", "Stale since")
    assert reader.text("#tile-round") == "41 of 200", "what was known stays in sight"
    server.answers["run"] = small.run()
    reader.wait("() => document.body.dataset.link === 'live'")
    assert reader.page.is_hidden("#notice")
    reader.check_clean(lambda text: "503" in text or "ERR_" in text)


def test_another_run_on_another_daemon_replaces_everything(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    server = serve(small)
    reader = read(server.url)
    reader.open()
    assert small.ids[0][-6:] in reader.text("#served")
    other = SimulatedSwarm(Shape(peers=5, rounds=7, seed=9))
    server.answers.update(other.answers())
    server.publish("run", other.run())
    reader.wait_for_text("#served", other.ids[0][-6:])
    reader.wait_for_text("#loss-words", "Rounds 1 to 7, 5 replicas")
    reader.wait("() => document.querySelectorAll('#peers-table tbody tr').length === 5")
    reader.check_clean()


def test_history_longer_than_one_page_is_loaded_whole(read: Read, serve: Serve) -> None:
    swarm = SimulatedSwarm(Shape(peers=3, troubled=0, rounds=620))
    server = serve(swarm)
    newest = m.RoundsAnswer(
        as_of=swarm.shape.now,
        served_from=swarm.ids[0],
        rounds=tuple(swarm.rounds[-500:]),
        more=True,
    )
    older = newest.model_copy(update={"rounds": tuple(swarm.rounds[:-500]), "more": False})
    server.answers["rounds"] = newest
    server.answers[f"rounds?before={newest.rounds[0].round}"] = older
    reader = read(server.url)
    reader.open()
    reader.wait_for_text("#loss-words", "Rounds 1 to 620")
    reader.check_clean()


# -- hostile text ----------------------------------------------------------------------------


def test_markup_of_a_peer_is_shown_as_text(read: Read, serve: Serve, small: SimulatedSwarm) -> None:
    server = serve(small)
    evil = small.peers[1].model_copy(
        update={"agent": EVIL, "version": EVIL, "name": EVIL, "addresses": (EVIL,), "phase": EVIL}
    )
    peers = (small.peers[0], evil, *small.peers[2:])
    answer = m.PeersAnswer(as_of=small.shape.now, served_from=small.ids[0], peers=peers)
    server.answers["peers"] = answer
    server.answers["run"] = changed(
        small.run(), name=EVIL, warning=EVIL, waiting_for=(EVIL, evil.peer), refused={EVIL: 1}
    )
    entry = m.TimelineEntry(
        id=99,
        time=small.shape.now,
        kind="refused",
        severity="error",
        peer=evil.peer,
        round=1,
        text=EVIL,
        recovery_s=None,
    )
    reader = read(server.url)
    page = reader.open()
    server.publish("timeline", entry)
    server.publish("log", m.LogEntry(id=999, time=small.shape.now, event=EVIL, text=EVIL), 999)
    reader.wait_for_text("#timeline-list", EVIL)
    reader.wait_for_text("#feed-list", EVIL)
    page.click(f'tr[data-peer="{evil.peer}"] button')
    reader.wait_for_text("#detail-body", EVIL)
    assert page.evaluate("() => globalThis.hacked") is None
    assert page.locator("main img, main script, dialog img, dialog script").count() == 0
    reader.check_clean()


def test_policy_refuses_inline_code(read: Read, serve: Serve, small: SimulatedSwarm) -> None:
    """The net below the page's own care: what slips in as markup does not run either."""
    reader = read(serve(small).url)
    page = reader.open()
    page.evaluate("(evil) => document.body.insertAdjacentHTML('beforeend', evil)", EVIL)
    reader.wait("() => document.querySelector('body > img')?.complete")
    assert page.evaluate("() => globalThis.hacked") is None
    assert any("Content Security Policy" in text for text in reader.complaints)


# -- the peers' table ------------------------------------------------------------------------


def test_table_sorts_by_each_column_and_says_so(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    reader = read(serve(small).url)
    page = reader.open()
    page.click("#peers-table th button:has-text('Text tokens/s')")
    head = page.locator("#peers-table th", has_text="Text tokens/s")
    assert head.get_attribute("aria-sort") == "descending"
    rates = [peer.text_tokens_per_s for peer in small.peers if peer.text_tokens_per_s]
    wanted = [f"{rate:,.0f}" for rate in sorted(rates, reverse=True)]
    assert order(reader, 6)[: len(wanted)] == wanted
    page.click("#peers-table th button:has-text('Text tokens/s')")
    assert head.get_attribute("aria-sort") == "ascending"
    assert order(reader, 6)[: len(wanted)] == wanted[::-1]
    assert page.locator("#peers-table th[aria-sort]").count() == 1
    page.click("#peers-table th button:has-text('State')")
    assert order(reader, 1)[0] == "dead"
    reader.check_clean()


def test_a_focused_row_keeps_its_focus_when_the_order_changes(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    server = serve(small)
    reader = read(server.url)
    page = reader.open()
    page.click("#peers-table th button:has-text('Text tokens/s')")
    slow = min(small.peers[:5], key=lambda peer: peer.text_tokens_per_s or 0)
    page.focus(f'tr[data-peer="{slow.peer}"] button')
    peers = tuple(
        peer.model_copy(update={"text_tokens_per_s": 9999.0}) if peer == slow else peer
        for peer in small.peers
    )
    answer = m.PeersAnswer(as_of=small.shape.now, served_from=small.ids[0], peers=peers)
    server.publish("peers", answer)
    reader.wait_for_text("#peers-table tbody tr:first-child", "9,999")
    focused = page.evaluate("() => document.activeElement.closest('tr')?.dataset.peer")
    assert focused == slow.peer


def test_two_hundred_peers_stay_readable(read: Read, serve: Serve) -> None:
    swarm = SimulatedSwarm(Shape(peers=200, troubled=14, rounds=60, blocks=32))
    reader = read(serve(swarm).url)
    page = reader.open()
    assert page.locator("#peers-table tbody tr").count() == 200
    assert page.locator("#graph-drawing .cell").count() == 200
    assert page.locator("#graph-drawing .cell.dead").count() == 4
    assert "mean of 200 replicas" in reader.text("#loss-legend")
    assert page.locator("#blocks-table tbody tr").count() == 2
    page.fill("#peers-search", "dead")
    reader.wait("() => document.querySelectorAll('#peers-table tbody tr').length === 4")
    assert reader.text("#peers-words") == "4 of 200"
    page.fill("#peers-search", swarm.ids[77])
    reader.wait("() => document.querySelectorAll('#peers-table tbody tr').length === 1")
    page.fill("#peers-search", "no such peer")
    reader.wait("() => document.querySelectorAll('#peers-table tbody tr').length === 0")
    reader.check_clean()


# -- readers of all kinds --------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("peers", [10, 200])
def test_axe_finds_nothing_serious(read: Read, serve: Serve, scheme: str, peers: int) -> None:
    swarm = SimulatedSwarm(Shape(peers=peers, ring=4 if peers == 10 else 0))
    reader = read(serve(swarm).url, color_scheme=scheme)
    page = reader.open()
    page.click("text=Losses as a table")
    page.click("#timeline-all")
    assert reader.violations() == []
    page.click("#waterfall-table button >> nth=1")
    assert reader.violations() == []
    page.keyboard.press("Escape")
    reader.check_clean()


@pytest.mark.parametrize("state", ["no-run", "connecting"])
def test_axe_finds_nothing_serious_in_the_blanks(
    read: Read, serve: Serve, small: SimulatedSwarm, state: str
) -> None:
    server = serve(small)
    blank = small.run().model_copy(update={"run": None})
    server.answers["run"] = blank if state == "no-run" else SILENT
    reader = read(server.url)
    reader.open(state)
    assert reader.violations() == []


def test_phone_shows_everything_without_sideways_scrolling(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    reader = read(serve(small).url, viewport=PHONE, has_touch=True)
    page = reader.open()
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
    page.tap("#waterfall-table button >> nth=1")
    assert page.locator("#detail").is_visible()
    assert page.evaluate("() => document.querySelector('#detail').scrollWidth") <= PHONE["width"]
    assert reader.violations() == []
    reader.check_clean()


def test_keyboard_reaches_a_peer_and_comes_back(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    reader = read(serve(small).url)
    page = reader.open()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    button = f'tr[data-peer="{small.ids[0]}"] button'
    page.focus(button)
    page.keyboard.press("Enter")
    assert page.locator("#detail").is_visible()
    assert small.ids[0] in reader.text("#detail-body")
    page.keyboard.press("Escape")
    assert page.evaluate("(it) => document.activeElement === document.querySelector(it)", button)
    reader.check_clean()


def test_phase_is_spoken_and_headings_and_charts_have_words(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    reader = read(serve(small).url)
    page = reader.open()
    assert page.get_attribute("#spoken", "aria-live") == "polite"
    reader.wait_for_text("#spoken", "Round 41: training")
    assert page.locator("h1").count() == 1
    headings = page.locator("section.panel > header h2").count()
    assert page.locator("section.panel").count() == headings
    for drawing in page.locator("[role=img]").all():
        words = drawing.get_attribute("aria-describedby")
        assert words and len(reader.text(f"#{words}")) > 20, drawing
    for table in page.locator("main table").all():
        if table.locator("tbody").count():
            assert table.locator("caption").count() == 1


def test_theme_follows_the_system_until_chosen_and_is_remembered(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    reader = read(serve(small).url, color_scheme="dark")
    page = reader.open()
    ground = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    reader.wait("() => document.body.dataset.state === 'run'")
    assert page.evaluate(ground) == light
    reader.check_clean()


def test_join_command_can_be_copied(read: Read, serve: Serve, small: SimulatedSwarm) -> None:
    reader = read(serve(small).url, permissions=["clipboard-read", "clipboard-write"])
    page = reader.open()
    page.click("#join-copy")
    reader.wait_for_text("#join-copy", "Copied")
    header = small.run().run
    assert header is not None
    assert page.evaluate("() => navigator.clipboard.readText()") == reader.text("#join-command")
    reader.check_clean()


def test_dialling_a_peer_tells_the_result(read: Read, serve: Serve, small: SimulatedSwarm) -> None:
    server = serve(small)
    peer = small.peers[1]
    reader = read(server.url)
    page = reader.open()
    page.click(f'tr[data-peer="{peer.peer}"] button')
    answer = m.ReachableAnswer(
        as_of=small.shape.now,
        served_from=small.ids[0],
        peer=peer.peer,
        reachable=False,
        took_ms=5000.0,
        link="unknown",
        code="SK-NET-001",
        detail="the peer does not answer",
    )
    server.answers[f"reachable/{peer.peer}"] = answer
    page.click("text=Dial it now")
    reader.wait_for_text("#detail-body", "SK-NET-001 the peer does not answer")
    busy = m.Problem(status=429, title="Asked too often", detail="Wait a few seconds.")
    server.answers[f"reachable/{peer.peer}"] = busy
    page.click("text=Dial it now")
    reader.wait_for_text("#detail-body", "Asked too often. Wait a few seconds.")
    reader.check_clean(lambda text: "429" in text)


def test_the_node_can_be_paused_by_its_user_alone(
    read: Read, serve: Serve, small: SimulatedSwarm
) -> None:
    server = serve(small)
    reader = read(server.url)
    page = reader.open()
    done = m.DoneAnswer(as_of=small.shape.now, served_from=small.ids[0], paused=True)
    server.answers["pause"] = done
    with page.expect_response("**/api/v1/pause"):
        page.click("#pause")
    assert server.told == ["pause"]
    server.publish("run", changed(small.run(), phase="paused"))
    reader.wait_for_text("#pause", "Resume this node")
    refused = m.Problem(status=401, title="The token is missing", detail="Open the link.")
    server.answers["resume"] = refused
    page.click("#pause")
    reader.wait_for_text("#pause-result", "The token is missing")
    server.publish("run", changed(small.run(), join_command=None))
    reader.wait("() => document.querySelector('#pause').hidden")
    reader.check_clean(lambda text: "401" in text)
