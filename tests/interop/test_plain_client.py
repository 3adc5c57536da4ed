"""A client of some 60 lines on plain ZeroMQ, written from the protocol document: is the document enough?"""

import ast
import json
from pathlib import Path

import pytest

from tests.interop import plain_client
from tests.interop.plain_client import Client, Failed, Lost, pack_batch
from tests.processes import Child, ServerProcess, client, controls, messages, wait_until

ROWS = [None, 0, 2**53, 0.5, "größe", b"\xff", [1, [2]], {"a": {"b": b"c"}}]


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server", heartbeat_s=0.5) as server:
        yield server


@pytest.fixture
def plain(server):
    one = Client(server.endpoint, heartbeat_s=0.5)
    yield one
    one.socket.close()


def _items(path, server, **options):
    """Run the plain client in a process of its own, so that nobody else's hub helps it to beat."""
    return Child(path, "tests.interop.plain_process", server.endpoint, json.dumps(options))


def test_it_uses_nothing_of_ours():
    imports = [node for node in ast.walk(ast.parse(Path(plain_client.__file__).read_text()))
               if isinstance(node, (ast.Import, ast.ImportFrom))]

    assert {name.name for node in imports for name in node.names} == {"os", "time", "zlib", "msgpack", "zmq"}


@pytest.mark.parametrize("format", ["map", "batch"])
def test_what_it_publishes_it_reads_back_in_both_formats(plain, format):
    ids = [b"i%d" % number for number in range(len(ROWS))]
    offsets = [plain.call("publish", "plain.one", row, {"key": "k", "headers": {"h": 1}, "id": id})
               for row, id in zip(ROWS, ids)]
    first, behind = plain.call("publish_many", "plain.many", ROWS)
    packed, = plain.call("append", [pack_batch("plain.packed", ROWS)])

    items = list(plain.subscribe("plain.>", start="earliest", until="end", format=format))

    assert [item["payload"] for item in messages(items)] == ROWS * 3
    assert [item["offset"] for item in messages(items)] == [*offsets, *range(first, behind),
                                                            *range(packed, packed + len(ROWS))]
    assert {item["topic"] for item in messages(items)} == {"plain.one", "plain.many", "plain.packed"}
    assert [(item.get("key"), item.get("id"), item.get("headers")) for item in messages(items)] == [
        *[("k", id, {"h": 1}) for id in ids], *[(None, None, None)] * len(ROWS) * 2]
    assert (items[0]["control"], items[-1]["control"], items[-1]["why"]) == ("subscribed", "end", "until")


@pytest.mark.parametrize("format", ["map", "batch"])
def test_it_joins_a_consumer_acknowledges_and_rejoins_for_the_rest_in_both_formats(plain, server, format):
    first, behind = plain.call("publish_many", "plain.work", list(range(100)))
    seen = []
    for join in range(2):
        reading = Client(server.endpoint, heartbeat_s=0.5)
        stream = reading.subscribe("plain.work", consumer="plain", start="earliest", max_in_flight=10, format=format)
        greeting = next(stream)
        for message in (item for item in stream if "control" not in item):
            seen.append((message["offset"], message["delivery"]))
            if len(seen) == 50 and join == 0:
                break
            assert plain.call("ack", "plain", [[message["offset"], message["token"]]]) == 1
            if message["offset"] == behind - 1:
                break
        reading.socket.close()
        assert greeting["consumer"] == "plain" and greeting["held"] == []

    assert seen[:50] == [(offset, 1) for offset in range(first, first + 50)]
    assert sorted({offset for offset, _ in seen}) == list(range(first, behind))
    assert (first + 49, 2) in seen[50:] and {delivery for _, delivery in seen[50:]} == {1, 2}
    with pytest.raises(Failed, match="StaleDelivery"):
        plain.call("nack", "plain", [[first, 1]])


@pytest.mark.parametrize("format", ["map", "batch"])
def test_it_reads_many_in_both_formats(plain, format):
    for number in range(50):
        plain.call("publish_many", f"many.{number % 3}", [[number, n, "x" * 100] for n in range(1_000)])

    got = messages(plain.subscribe("many.*", start="earliest", until="end", format=format))

    assert [message["payload"][:2] for message in got] == [[number, n] for number in range(50) for n in range(1_000)]


def test_its_errors_have_the_names_of_the_document(plain):
    for args, name in [(("publish", "bad..topic", 1), "InvalidTopic"), (("nothing",), "UnknownMethod"),
                       (("publish", "a"), "MalformedRequest"), (("publish", "a", 1, {"x": 1}), "InvalidOption")]:
        with pytest.raises(Failed) as failed:
            plain.call(*args)
        assert failed.value.args[0] == name

    with pytest.raises(Failed) as failed:
        list(plain.subscribe("a", start=10**6))
    assert failed.value.args[0] == "OffsetOutOfRange"


def test_a_publish_that_it_repeats_is_stored_once(plain):
    retry = {"producer": "plain", "sequence": 7}

    assert plain.call("publish", "once", 1, retry) == plain.call("publish", "once", 1, retry)

    assert [topic["messages"] for topic in plain.call("topics", "once")] == [1]


def test_it_stays_while_it_beats_and_hears_what_comes_later(tmp_path, server):
    with _items(tmp_path / "one", server, patterns="later") as one, client(server) as publisher:
        wait_until(one.said, "the greeting")
        looks = publisher.stats()["server"]["hub_lag_us"]["count"]
        wait_until(lambda: publisher.stats()["server"]["hub_lag_us"]["count"] > looks + 100, "five heartbeats' worth")

        publisher.publish("later", "hello")

        wait_until(lambda: messages(one.said()), "the message")
        assert publisher.stats()["server"]["lost_peers"] == 0


def test_it_resumes_where_it_was_when_the_server_was_killed(tmp_path, server):
    with client(server) as publisher:
        publisher.publish_many("resume", list(range(500)))
    with _items(tmp_path / "one", server, patterns="resume", resume=True) as one:
        wait_until(lambda: len(messages(one.said())) == 500, "the first messages")
        server.kill()
        with server.again() as again, client(again) as publisher:
            publisher.publish_many("resume", list(range(500, 1_000)))

            wait_until(lambda: len(messages(one.said())) >= 1_000, "the rest")
            assert [message["payload"] for message in messages(one.said())] == list(range(1_000))
            assert len({greeting["epoch"] for greeting in controls(one.said(), "subscribed")}) == 1


def test_it_is_told_where_to_resume_when_the_server_leaves(tmp_path, server):
    with client(server) as publisher, _items(tmp_path / "one", server, patterns="leaves") as one:
        wait_until(one.said, "the greeting")
        publisher.publish_many("leaves", list(range(10)))
        wait_until(lambda: len(messages(one.said())) == 10, "the messages")

        server.terminate()

        assert one.wait() == 0
        end, = controls(one.said(), "end")
        assert (end["why"], end["resume"], one.said()[-1]["ended"]) == ("ServerDraining", 10, "ServerDraining")


def test_a_server_that_is_not_there_is_lost_and_not_waited_for(plain, server):
    server.kill()

    with pytest.raises(Lost):
        plain.call("about")
