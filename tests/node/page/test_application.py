"""The application over a run that was really trained: every route, and every kind of error."""

import asyncio
import json
import re

import page_world
import pytest
import run_world
from prometheus_client.parser import text_string_to_metric_families

from skerry.node.page import models as md
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import Address
from skerry.protocol.messages import ShardPayload

BEARER = {"Authorization": f"Bearer {page_world.TOKEN}"}


class TestRun:
    async def test_header_is_the_state_of_the_node(self, page) -> None:
        async with page.client() as client:
            answer = md.RunAnswer.model_validate((await client.get("/api/v1/run")).json())
        rounds = page.context.state.rounds
        run = answer.run
        assert (run.run_id, run.name) == (page.context.run_id, "small")
        assert (run.phase, run.round, run.rounds) == ("done", 3, 3)
        assert run.state_digest == rounds.digests[rounds.at]
        assert run.text_tokens == rounds.chain.weight_of(rounds.at) > 0
        assert answer.served_from == answer.node.peer == page.context.me

    async def test_losses_come_from_the_history_until_they_are_measured_again(self, page) -> None:
        page.context.facts.validated_round = -1
        measured = page.daemon.part.member.lines("validated")
        async with page.client() as client:
            run = (await client.get("/api/v1/run")).json()["run"]
            assert run["val_loss_start"] == measured[0]["loss"]
            assert (run["val_loss"], run["val_loss_round"]) == (measured[-1]["loss"], 3)
            page.context.facts.validated(3, 1.5)
            assert (await client.get("/api/v1/run")).json()["run"]["val_loss"] == 1.5

    async def test_goodput_compares_with_what_peers_make_undisturbed(self, page) -> None:
        page.context.facts.tokens_per_second = 1e6
        async with page.client() as client:
            goodput = (await client.get("/api/v1/run")).json()["run"]["goodput"]
        assert goodput["undisturbed_per_s"] == 1e6
        assert goodput["ratio"] == pytest.approx(goodput["text_tokens_per_s"] / 1e6)

    async def test_join_command_is_for_those_who_may_invite(self, page) -> None:
        async with page.client() as client:
            assert (await client.get("/api/v1/run")).json()["run"]["join_command"] is None
            told = (await client.get("/api/v1/run", headers=BEARER)).json()["run"]["join_command"]
        assert told == f"skerry join {page.daemon.part.join_token}"

    async def test_daemon_without_a_run_says_so(self, page) -> None:
        page.daemon.part.member = None
        async with page.client() as client:
            assert (await client.get("/api/v1/run")).json()["run"] is None
            assert (await client.get("/api/v1/peers")).json()["peers"] == []
            assert (await client.get("/api/v1/plan")).json()["replicas"] == []
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/api/v1/reachable/nobody")).status_code == 404


async def test_every_answer_is_of_its_model(page) -> None:
    answers = {
        "run": md.RunAnswer,
        "peers": md.PeersAnswer,
        "rounds": md.RoundsAnswer,
        "timeline": md.TimelineAnswer,
        "log": md.LogAnswer,
        "plan": md.PlanAnswer,
    }
    async with page.client() as client:
        for name, model in answers.items():
            answer = await client.get(f"/api/v1/{name}")
            assert answer.status_code == 200, answer.text
            model.model_validate(answer.json())


async def test_rounds_are_those_of_the_chain(page) -> None:
    async with page.client() as client:
        answer = md.RoundsAnswer.model_validate((await client.get("/api/v1/rounds")).json())
    chain, at = page.context.state.rounds.chain, page.context.state.rounds.at
    commits = [chain[name] for name in reversed(list(chain.path(at)))]
    assert [row.round for row in answer.rounds] == [0, 1, 2, 3]
    assert [row.commit for row in answer.rounds] == [commit.hash for commit in commits]
    for row, commit in zip(answer.rounds, commits, strict=True):
        authors = [announce.signer for announce in commit.message.announces]
        assert [part.peer for part in row.contributions if part.included] == authors
        assert row.total_text_tokens == commit.message.weight
        sizes = [s.size for a in commit.message.announces for s in a.message.shards]
        assert row.payload_bytes == sum(sizes)


async def test_rounds_have_the_waterfall_of_this_peer(page) -> None:
    async with page.client() as client:
        answer = md.RoundsAnswer.model_validate((await client.get("/api/v1/rounds")).json())
    applied = [line["digest"] for line in page.daemon.part.member.lines("applied")]
    assert [row.digest for row in answer.rounds[1:]] == applied
    for row in answer.rounds[1:]:
        names = [span.name for span in row.spans]
        assert names == ["training", "encoding", "collecting", "fetching", "applying"]
        ends = [span.start_s + span.duration_s for span in row.spans]
        starts = [span.start_s for span in row.spans]
        assert starts[1:] == pytest.approx(ends[:-1], abs=0.002)
        assert row.duration_s == pytest.approx(ends[-1], abs=0.002)
        assert row.apply_s == row.spans[-1].duration_s
        assert 0 <= row.commit_s <= row.duration_s
        assert all(part.announced_s is not None for part in row.contributions)
        # What another peer fetches late is counted in the round in which it does.
        assert row.received["payload"] > 0
    assert sum(row.sent.get("payload", 0) for row in answer.rounds) > 0


async def test_rounds_come_in_pages(page) -> None:
    async with page.client() as client:
        newest = (await client.get("/api/v1/rounds?limit=2")).json()
        older = (await client.get("/api/v1/rounds?limit=2&before=2")).json()
    assert ([row["round"] for row in newest["rounds"]], newest["more"]) == ([2, 3], True)
    assert ([row["round"] for row in older["rounds"]], older["more"]) == ([0, 1], False)


async def test_log_is_the_event_log(page) -> None:
    lines = page.journal.last(10_000)
    async with page.client() as client:
        log = (await client.get("/api/v1/log?limit=500")).json()["lines"]
        earlier = (await client.get(f"/api/v1/log?limit=3&before={log[-1]['id']}")).json()["lines"]
    assert [line["event"] for line in log] == [json.loads(line)["event"] for line in lines]
    assert [line["id"] for line in log] == list(range(1, len(lines) + 1))
    assert earlier == log[-4:-1]


async def test_plan_puts_all_shards_on_each_peer_of_the_roster(page) -> None:
    async with page.client() as client:
        plan = (await client.get("/api/v1/plan")).json()
    roster = list(page.context.state.rounds.roster)
    assert [shard["shard"] for shard in plan["shards"]] == ["embed", "block.0", "head"]
    assert all(shard["hosts"] == roster for shard in plan["shards"])
    assert [replica["stages"][0]["peer"] for replica in plan["replicas"]] == roster


class TestPeers:
    async def test_this_peer_comes_first_and_others_follow(self, page) -> None:
        async with page.client() as client:
            peers = (await client.get("/api/v1/peers")).json()["peers"]
        assert [peer["self"] for peer in peers] == [True, False]
        assert peers[0]["owner"] and peers[0]["state"] == "alive"
        assert peers[1]["agent"] == "skerry/0.1" and peers[1]["version"] == "0.1"

    async def test_links_are_told_as_the_transport_tells_them(self, page) -> None:
        other = run_world.signer_of(2).peer_id
        page.daemon.far = {other: True}
        async with page.client() as client:
            peers = (await client.get("/api/v1/peers")).json()["peers"]
        assert peers[1]["link"] == "relayed"

    async def test_transport_that_cannot_say_leaves_links_unknown(self, page, monkeypatch) -> None:
        async def down():
            raise PeerUnavailable("SK-NET-003", "p2pd is being restarted")

        monkeypatch.setattr(page.daemon, "relayed", down)
        async with page.client() as client:
            peers = (await client.get("/api/v1/peers")).json()["peers"]
        assert peers[1]["link"] == "unknown"


class TestHealth:
    async def test_dead_compute_process_is_not_healthy(self, page) -> None:
        page.context.facts.compute = "dead"
        async with page.client() as client:
            answer = await client.get("/healthz")
        assert answer.status_code == 503
        assert "compute process" in answer.json()["reason"]

    async def test_phase_that_lasts_too_long_is_not_healthy(self, page) -> None:
        rounds = page.context.state.rounds
        rounds.phase, rounds.phase_since = type(rounds.phase).TRAINING, -1e6
        async with page.client() as client:
            answer = await client.get("/healthz")
        assert answer.status_code == 503
        assert "training for" in answer.json()["reason"]

    async def test_run_that_is_over_is_healthy_for_ever(self, page) -> None:
        page.context.state.rounds.phase_since = -1e6
        async with page.client() as client:
            assert (await client.get("/healthz")).json()["reason"] == "ok"


_LABEL = r'[a-z_]+="[^"\\]*"'
_SAMPLE = rf"(?P<name>[a-z][a-z0-9_]*)(\{{(?P<labels>{_LABEL}(,{_LABEL})*)\}})? (?P<value>\S+)"


class TestMetrics:
    async def test_parse_and_agree_with_the_header(self, page) -> None:
        page.context.refuse(run_world.signer_of(2).peer_id, 'bad "reason"\n')
        async with page.client() as client:
            answer = await client.get("/metrics")
            run = (await client.get("/api/v1/run")).json()["run"]
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = {f.name: f for f in text_string_to_metric_families(answer.text)}
        value = {name: family.samples[0].value for name, family in found.items()}
        assert value["skerry_up"] == 1
        assert value["skerry_validation_loss"] == run["val_loss"]
        assert value["skerry_text_tokens"] == run["text_tokens"]
        assert value["skerry_process_resident_bytes"] > 10 * 2**20
        reasons = {s.labels["reason"] for s in found["skerry_rejected_updates"].samples}
        assert reasons == {"bad__reason__"}
        phases = {s.labels["phase"] for s in found["skerry_round_seconds"].samples}
        assert {"training", "applying"} <= phases

    async def test_tell_the_bandwidth_since_the_last_scrape(self, page) -> None:
        def rates(text: str) -> dict[str, float]:
            found = {f.name: f for f in text_string_to_metric_families(text)}
            family = found.get("skerry_bandwidth_bytes_per_second")
            return {s.labels["direction"]: s.value for s in family.samples} if family else {}

        async with page.client() as client:
            assert rates((await client.get("/metrics")).text) == {}
            page.context.facts.sent_bytes["payload"] += 5000
            again = rates((await client.get("/metrics")).text)
            still = rates((await client.get("/metrics")).text)
        assert again["up"] > 0 and again["down"] == 0
        assert still == {"up": 0, "down": 0}

    async def test_tell_how_much_of_a_state_is_here(self, page) -> None:
        async def percent(client) -> float:
            text = (await client.get("/metrics")).text
            found = {f.name: f for f in text_string_to_metric_families(text)}
            return found["skerry_p2p_downloaded_params_percent"].samples[0].value

        here = page.context.blobs.put(b"x" * 30)
        missing = Address("ab" * 32)
        async with page.client() as client:
            assert await percent(client) == 100
            page.context.facts.state_wanted = (
                ShardPayload("block.0", here, 30),
                ShardPayload("block.1", missing, 90),
            )
            assert await percent(client) == 25

    async def test_pass_what_promtool_checks(self, page) -> None:
        """The rules of ``promtool check metrics``, over the text as Prometheus gets it."""
        async with page.client() as client:
            text = (await client.get("/metrics")).text
        assert text.endswith("\n")
        described: dict[str, set[str]] = {}
        samples = []
        for line in text.splitlines():
            if comment := re.fullmatch(r"# (HELP|TYPE) ([a-z][a-z0-9_]*) (\S.*)", line):
                kind, name, words = comment.groups()
                assert kind not in described.setdefault(name, set()), f"{name}: {kind} twice"
                described[name].add(kind)
                if kind == "TYPE":
                    counts = words == "counter"
                    assert words in ("counter", "gauge", "summary"), line
                    assert name.endswith("_total") == counts, line
                    assert not re.search(r"_(count|sum|bucket|gauge|counter|summary)$", name)
                    assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|kilobytes)(_|$)", name)
            else:
                sample = re.fullmatch(_SAMPLE, line)
                assert sample, line
                float(sample["value"])
                samples.append((sample["name"], sample["labels"]))
        assert all(kinds == {"HELP", "TYPE"} for kinds in described.values())
        families = {re.sub(r"_(sum|count)$", "", name) for name, _ in samples}
        assert families <= set(described)
        assert len(samples) == len(set(samples)) > 20, "each sample once"

    async def test_name_no_peer(self, page) -> None:
        async with page.client() as client:
            text = (await client.get("/metrics")).text
        assert "12D3" not in text and "/memory" not in text

    async def test_without_a_run_are_those_of_the_process(self, page) -> None:
        page.daemon.part.member = None
        async with page.client() as client:
            text = (await client.get("/metrics")).text
        names = {family.name for family in text_string_to_metric_families(text)}
        assert names == {"skerry_up", "skerry_process_resident_bytes"}


class TestErrors:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/v1/nothing", 404),
            ("/api/v1/rounds?limit=0", 422),
            ("/api/v1/rounds?limit=501", 422),
            ("/api/v1/rounds?before=-1", 422),
            ("/api/v1/log?before=99999999999999999999", 422),
            ("/api/v1/reachable/nobody", 404),
            ("/static/../application.py", 404),
            ("/static/%2e%2e/application.py", 404),
        ],
    )
    async def test_are_problems_with_a_way_out(self, page, path, status) -> None:
        async with page.client() as client:
            answer = await client.get(path)
        problem = md.Problem.model_validate(answer.json())
        assert answer.status_code == problem.status == status
        assert problem.detail

    async def test_fault_inside_is_told_without_its_secrets(self, page, monkeypatch) -> None:
        def broken():
            raise RuntimeError("/secret/path")

        monkeypatch.setattr(page.desk, "plan_answer", broken)
        async with page.client() as client:
            answer = await client.get("/api/v1/plan")
        assert answer.status_code == 500
        assert "secret" not in answer.text


async def test_page_and_its_parts_are_served(page) -> None:
    async with page.client() as client:
        answer = await client.get("/")
        script = await client.get("/static/js/main.js")
    assert answer.status_code == script.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "javascript" in script.headers["content-type"]


async def test_schema_names_these_paths(page) -> None:
    async with page.client() as client:
        schema = (await client.get("/openapi.json")).json()
    found = {(path, method) for path, item in schema["paths"].items() for method in item}
    reads = ("run", "peers", "rounds", "timeline", "log", "plan", "events", "reachable/{peer}")
    assert found == {
        *((f"/api/v1/{name}", "get") for name in reads),
        ("/api/v1/pause", "post"),
        ("/api/v1/resume", "post"),
        ("/api/v1/outer-lr", "post"),
        ("/api/v1/peers/{peer}/remove", "post"),
        ("/api/v1/peers/{peer}/readmit", "post"),
        ("/healthz", "get"),
        ("/metrics", "get"),
    }


class TestPausing:
    @pytest.fixture(autouse=True)
    async def deciding(self, page):
        """Events are taken as a session takes them."""
        task = asyncio.create_task(page.daemon.part.member.decide())
        yield
        task.cancel()
        await asyncio.wait([task])

    async def test_pause_and_resume_are_real_and_written_down(self, page) -> None:
        async with page.client(**BEARER) as client:
            answer = await client.post("/api/v1/pause")
            assert answer.json()["paused"] is True
            assert page.context.state.rounds.paused
            assert page.context.store.paused
            assert (await client.post("/api/v1/resume")).json()["paused"] is False
            assert not page.context.state.rounds.paused
        asked = page.daemon.part.member.lines("page-asked")
        assert [line["action"] for line in asked] == ["pause", "resume"]

    async def test_nobody_pauses_without_the_token(self, page) -> None:
        async with page.client() as client:
            assert (await client.post("/api/v1/pause")).status_code == 401
        assert not page.context.state.rounds.paused
        assert page.daemon.part.member.lines("page-asked") == []
