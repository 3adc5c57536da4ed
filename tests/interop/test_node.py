"""The stock npm package zerorpc on Node, as publisher and as subscriber."""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.need import need, need_command
from tests.processes import ROOT, ServerProcess, client, controls, wait_until

HERE = Path(__file__).parent / "node"
CACHE = ROOT / ".cache" / "node"
INSTALL_S = 100


@pytest.fixture(scope="module")
def node():
    """The command line up to the script, with the package installed in a cache outside the tracked files."""
    program, npm = need_command("node"), need_command("npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (HERE / "package.json").read_text()
        if not (CACHE / "ready").exists() or (CACHE / "ready").read_text() != wanted:
            shutil.copy(HERE / "package.json", CACHE)
            done = subprocess.run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=CACHE,
                                  capture_output=True, text=True, timeout=INSTALL_S)
            need(done.returncode == 0, f"npm cannot install zerorpc: {done.stderr[-300:]}")
            (CACHE / "ready").write_text(wanted)
    for name in ("shim.js", "client.js"):
        shutil.copy(HERE / name, CACHE)
    return [program, "--no-deprecation", "-r", str(CACHE / "shim.js"), str(CACHE / "client.js")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("node")) as server:
        yield server


class Node:
    """One Node process; what it said is in ``lines()``."""

    def __init__(self, command, path, what, server, **options):
        self._out = path / f"node-{len(list(path.iterdir()))}.out"
        self._errors = self._out.with_suffix(".err")
        with open(self._out, "wb") as out, open(self._errors, "wb") as errors:
            self._process = subprocess.Popen([*command, what, server.endpoint, json.dumps(options)], stdout=out,
                                             stderr=errors, stdin=subprocess.DEVNULL, cwd=CACHE, env=dict(os.environ))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def running(self):
        return self._process.poll() is None

    def lines(self):
        return [json.loads(line) for line in self._out.read_bytes().split(b"\n")[:-1]]

    def finish(self):
        """Wait for its end; return what it said."""
        wait_until(lambda: self._process.poll() is not None,
                   lambda: f"{self.lines()[-3:]} {self._errors.read_text()}", 60)
        assert self._process.returncode == 0, self._errors.read_text()
        return self.lines()


def _run(node, tmp_path, what, server, **options):
    with Node(node, tmp_path, what, server, **options) as one:
        return one.finish()


def _log(server, topic):
    with client(server) as one:
        return list(one.subscribe(topic, {"start": "earliest", "until": "end"}))[1:-1]


def test_what_node_publishes_is_in_the_log(node, tmp_path, server):
    answers = _run(node, tmp_path, "publish", server, topic="node.published", count=500, width=50)

    log = _log(server, "node.published")
    assert [(item["offset"], item["payload"], item["key"]) for item in log] == [
        (offset, {"n": number, "text": "größe"}, f"k{number % 3}") for offset, number in sorted(answers)]
    assert sorted(number for _, number in answers) == list(range(500))


def test_node_sees_an_error_by_its_name(node, tmp_path, server):
    answer, = _run(node, tmp_path, "call", server, method="publish", args=["bad..topic", 1])

    assert answer["error"] == "InvalidTopic"


@pytest.mark.parametrize("method, args", [("about", []), ("topics", [">"]), ("subscriptions", []), ("stats", []),
                                          ("get", [1e15]), ("last", ["nothing.here"]), ("unsubscribe", ["nobody"])])
def test_node_can_call_every_method(node, tmp_path, server, method, args):
    answer, = _run(node, tmp_path, "call", server, method=method, args=args)

    assert "error" not in answer


def test_node_joins_a_consumer_and_acknowledges_and_what_it_left_comes_to_the_next(node, tmp_path, server):
    with client(server) as one:
        first, behind = one.publish_many("node.consumed", [{"n": number} for number in range(60)])
        with Node(node, tmp_path, "consume", server, patterns="node.consumed", consumer="node", die_at=25) as killed:
            wait_until(lambda: not killed.running, lambda: killed.lines())
            before = killed.lines()[1:]
        left = 60 - one.consumer("node")["acked"]

        greeting, *after = _run(node, tmp_path, "consume", server, patterns="node.consumed", consumer="node",
                                count=left)

        assert greeting["consumer"] == "node" and left <= 35
        assert all(count == 1 for *_, count in before + after)
        assert [payload["n"] for _, payload, *_ in after] == [offset - first for offset, *_ in after]
        assert {offset for offset, *_ in after} <= set(range(first, behind)) - {offset for offset, *_ in before}
        assert 2 in {delivery for *_, delivery, _ in after} <= {1, 2}
        described = one.consumer("node")
        assert (described["pending"], described["acked"]) == (0, 60)


@pytest.mark.parametrize("method, args, error", [
    ("ack", ["nobody", [[1, 1]]], "UnknownConsumer"), ("extend", ["nobody", [1], None], "InvalidOption"),
    ("create_consumer", ["no name", "a"], "InvalidOption"), ("ack", ["nobody", None], "InvalidOption"),
    ("seek", ["nobody", None], "InvalidOption")])
def test_node_is_told_what_is_wrong_with_a_call_about_a_consumer(node, tmp_path, server, method, args, error):
    answer, = _run(node, tmp_path, "call", server, method=method, args=args)

    assert answer["error"] == error


@pytest.mark.parametrize("count", [3, 60, 400, 1000, 5000])
def test_node_reads_a_finite_stream_and_the_server_goes_on(node, tmp_path, server, count):
    topic = f"node.finite{count}"
    with client(server) as one:
        first, behind = one.publish_many(topic, [{"n": number} for number in range(count)])

        greeting, *items, ended = _run(node, tmp_path, "subscribe", server, patterns=topic,
                                       subscribe={"start": "earliest", "until": "end"})

        assert greeting["control"] == "subscribed"
        assert greeting["control"] == "subscribed"
        assert items[:-1] == [[first + number, {"n": number}] for number in range(count)]
        assert (items[-1]["control"], items[-1]["why"], ended) == ("end", "until", {"ended": "done"})
        assert one.publish(topic, "the server goes on") == behind


def test_node_gets_live_messages_and_is_told_of_its_end(node, tmp_path, server):
    with client(server) as one, Node(node, tmp_path, "subscribe", server, patterns=["node.live.*"],
                                     subscribe={}) as subscriber:
        greeting = wait_until(subscriber.lines, "the greeting")[0]
        offsets = [one.publish(f"node.live.{number % 3}", number) for number in range(300)]
        wait_until(lambda: len(subscriber.lines()) == 301, lambda: f"all messages, not {len(subscriber.lines())}")

        assert one.unsubscribe(greeting["id"]) is True

        _, *items, end, ended = subscriber.finish()
        assert items == [[offset, number] for number, offset in enumerate(offsets)]
        assert (end["why"], ended["ended"], end["resume"]) == ("Unsubscribed", "Unsubscribed", offsets[-1] + 1)


@pytest.mark.parametrize("start", ["earliest", "offset", "replayed"])
def test_node_that_is_blocked_for_seconds_while_thousands_wait_loses_nothing(node, tmp_path, server, start):
    topic = f"node.blocked.{start}"
    payload, count = "x" * 5_000, 6_000
    with client(server) as one:
        begin = one.about()["next"]
        options = dict(patterns=topic, short=True, block_at=300, block_s=3)
        if start == "replayed":
            _fill(one, topic, payload, count)
            items = _run(node, tmp_path, "subscribe", server, **options, subscribe={"start": begin, "until": "end"})
        else:
            where = {"start": begin if start == "offset" else "earliest", "until": begin + count}
            with Node(node, tmp_path, "subscribe", server, **options, subscribe=where) as subscriber:
                wait_until(subscriber.lines, "the greeting")
                _fill(one, topic, payload, count)
                items = subscriber.finish()

        assert [item[0] for item in items if isinstance(item, list)] == list(range(begin, begin + count))
        assert controls([item for item in items if isinstance(item, dict)], "gap") == []
        assert items[-1] == {"ended": "done"}
        assert server.rss() < 150 << 20


def _fill(one, topic, payload, count):
    for _ in range(count // 100):
        one.publish_many(topic, [payload] * 100)
