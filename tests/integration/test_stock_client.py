"""A stock zerorpc client is a first-class citizen: it publishes, subscribes, resumes and learns why it was cut off."""

import subprocess
import sys
import uuid

import gevent
import pytest
import zerorpc

from tests.processes import client, controls, messages, wait_until
from zstreampub.broker import Broker
from zstreampub.service import Service

METHODS = ("publish", "publish_many", "append", "subscribe", "unsubscribe", "topics", "get", "last", "subscriptions",
           "stats", "about")


SETTINGS = {"keepalive_s": 0.3}


@pytest.fixture
def one(server):
    with client(server) as one:
        yield one


@pytest.fixture
def filled(one):
    """Twenty messages, of three topics in turn; returns ``(prefix, offsets)``."""
    prefix = f"t{uuid.uuid4().hex}"
    return prefix, [one.publish(f"{prefix}.{'abc'[number % 3]}", number) for number in range(20)]


def _payloads(items):
    return [message["payload"] for message in messages(items)]


def _take(stream, count):
    """Return the next *count* messages of an endless stream."""
    found = []
    while len(found) < count:
        found.extend(messages([next(stream)]))
    return found


def test_every_way_to_start_and_to_end(one, filled):
    prefix, offsets = filled
    everything = f"{prefix}.>"

    def read(patterns, **options):
        return _payloads(one.subscribe(patterns, {"until": "end", **options}))

    assert read(everything, start="earliest") == list(range(20))
    assert read(f"{prefix}.a", start="earliest") == list(range(0, 20, 3))
    assert read([f"{prefix}.a", f"{prefix}.b"], start="earliest") == [n for n in range(20) if n % 3 < 2]
    assert read(f"{prefix}.*", start=offsets[5]) == list(range(5, 20))
    assert read(everything, start=float(offsets[5])) == list(range(5, 20))
    assert read(everything, start={"last": 4}) == [16, 17, 18, 19]
    assert read(f"{prefix}.c", start={"last": 2}) == [14, 17]
    assert read(everything, start="last") == [17, 18, 19]
    assert read(everything, start={"time": one.get(offsets[7])["time"]})[-13:] == list(range(7, 20))
    assert read(everything, start={"time": one.get(offsets[19])["time"] + 60}) == []
    assert read(everything, start="new") == []
    assert read(everything, start="earliest", until=offsets[3]) == [0, 1, 2]
    assert read(everything, start=offsets[2], until=offsets[2]) == []
    assert read(f"{prefix}.nothing", start="earliest") == []


STARTS = {"earliest": ("earliest", 0), "an offset": (15, 15), "the last two": ({"last": 2}, 18),
          "the last of each": ("last", 17), "new": ("new", 20)}


@pytest.mark.parametrize("start, first", STARTS.values(), ids=STARTS.keys())
def test_every_start_goes_on_with_what_comes(one, filled, start, first):
    prefix, offsets = filled
    start = offsets[start] if isinstance(start, int) else start
    stream = one.subscribe(f"{prefix}.>", {"start": start})
    assert next(stream)["control"] == "subscribed"

    one.publish(f"{prefix}.z", "live")

    assert [message["payload"] for message in _take(stream, 20 - first + 1)] == [*range(first, 20), "live"]


def test_an_until_in_the_future_ends_when_it_is_reached(one):
    begin = one.about()["next"]
    stream = one.subscribe("future", {"until": begin + 3})
    assert next(stream)["offset"] == begin

    for number in range(5):
        one.publish("future", number)

    items = list(stream)
    assert _payloads(items) == [0, 1, 2]
    assert (items[-1]["control"], items[-1]["why"], items[-1]["resume"]) == ("end", "until", begin + 3)


def test_resuming_gives_each_message_once(server, one):
    begin = one.about()["next"]
    seen, start = [], begin
    publishing = gevent.spawn(lambda: [one.publish("resumed", number) for number in range(300)])
    while len(seen) < 300:
        with client(server) as reader:
            stream = reader.subscribe("resumed", {"start": start, "epoch": one.about()["epoch"]})
            for message in _take(stream, min(37, 300 - len(seen))):
                seen.append(message["payload"])
                start = message["offset"] + 1
    publishing.get()

    assert seen == list(range(300))


def test_an_offset_of_another_log_is_refused(one):
    with pytest.raises(zerorpc.RemoteError) as refused:
        list(one.subscribe(">", {"start": 0, "epoch": "0" * 32}))

    assert refused.value.name == "EpochMismatch"
    assert refused.value.traceback is None


def test_unsubscribe_ends_the_stream_and_says_where_to_resume(one, filled):
    prefix, offsets = filled
    stream = one.subscribe(f"{prefix}.>", {"start": "earliest"})
    greeting = next(stream)
    assert len(_take(stream, 20)) == 20

    assert one.unsubscribe(greeting["id"]) is True
    assert one.unsubscribe(greeting["id"]) is False

    items = []
    with pytest.raises(zerorpc.RemoteError) as ended:
        for item in stream:
            items.append(item)
    assert ended.value.name == "Unsubscribed"
    assert [(end["why"], end["resume"]) for end in controls(items, "end")] == [("Unsubscribed", offsets[-1] + 1)]


def test_a_silent_stream_is_kept_alive_and_told_the_end_of_the_log(one):
    stream = one.subscribe("silent")
    next(stream)
    behind = one.publish("loud", 1) + 1

    keepalive = next(item for item in stream if item["control"] == "keepalive" and item["offset"] >= behind)

    assert keepalive["offset"] == behind


def test_what_there_is_can_be_looked_at(one, filled):
    prefix, offsets = filled
    stream = one.subscribe(f"{prefix}.>", {"name": "looked at", "policy": "drop"})
    greeting = next(stream)

    assert [(topic["topic"][-1], topic["messages"], topic["next"]) for topic in one.topics(f"{prefix}.>")] == [
        ("a", 7, offsets[18] + 1), ("b", 7, offsets[19] + 1), ("c", 6, offsets[17] + 1)]
    assert one.get(offsets[4])["payload"] == 4
    assert one.last(f"{prefix}.a")["payload"] == 18
    described, = (each for each in one.subscriptions() if each["id"] == greeting["id"])
    assert (described["name"], described["policy"], described["state"]) == ("looked at", "drop", "live")
    assert one.stats()["subscriptions"] >= 1
    assert one.about()["next"] == offsets[-1] + 1


def test_the_stock_command_lists_the_methods_with_arguments_and_a_line_of_what_they_do(server):
    done = subprocess.run([sys.executable, "-c", "from zerorpc.cli import main; main()", server.endpoint],
                          capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    lines = {line.split("(")[0].split()[0]: line for line in done.stdout.splitlines() if line and line[0] != " "}
    for name in METHODS:
        assert name in lines
        assert len(lines[name].split(maxsplit=1)[1]) > 20, "a line says what it does"
    help_of = subprocess.run([sys.executable, "-c", "from zerorpc.cli import main; main()", server.endpoint,
                              "publish", "-?"], capture_output=True, text=True, timeout=30)
    assert "topic, payload, options" in help_of.stdout


def test_introspection_answers_like_a_stock_server(one):
    assert set(METHODS) <= set(one._zerorpc_list())
    assert one._zerorpc_ping()[0] == "pong"
    assert [argument["name"] for argument in one._zerorpc_inspect()["methods"]["publish"]["args"]] == [
        "topic", "payload", "options"]
    assert one._zerorpc_help("publish").startswith("Store one message durably")
    assert one._zerorpc_args("subscribe")[0] == ["patterns", "options"]


def test_many_stock_streams_on_one_connection_get_everything(one):
    streams = [one.subscribe("shared.>") for _ in range(50)]
    for stream in streams:
        next(stream)

    tasks = [gevent.spawn(_take, stream, 1_000) for stream in streams]
    for number in range(10):
        one.publish_many("shared.a", list(range(number * 100, number * 100 + 100)))

    for task in tasks:
        assert [message["payload"] for message in task.get(timeout=30)] == list(range(1_000))


@pytest.fixture(params=["lmdb", "memory"])
def stock_server(request, tmp_path):
    """A Service on a stock zerorpc.Server, in this process; returns its endpoint."""
    url = "memory:" if request.param == "memory" else f"lmdb:{tmp_path / 'store'}"
    with Broker.open(url) as broker:
        server = zerorpc.Server(Service(broker), name="stock")
        server.bind("tcp://127.0.0.1:0")
        task = gevent.spawn(server.run)
        yield server._events._socket.last_endpoint
        server.stop()
        task.kill()
        server.close()


def test_the_service_works_on_a_stock_server_too(stock_server):
    with client(stock_server) as one:
        live = one.subscribe("a.*")
        greeting = next(live)
        offsets = [one.publish(f"a.{number}", number, {"key": "k"}) for number in range(50)]
        assert one.publish_many("a.many", [1, 2]) == [50, 52]

        assert [message["offset"] for message in _take(live, 52)] == [*offsets, 50, 51]
        items = list(one.subscribe("a.>", {"start": "earliest", "until": "end"}))
        assert _payloads(items) == [*range(50), 1, 2]
        assert items[-1]["why"] == "until"
        assert one.last("a.7", "k")["payload"] == 7
        with pytest.raises(zerorpc.RemoteError) as refused:
            one.publish("a..b", 1)
        assert refused.value.name == "InvalidTopic"

        assert one.unsubscribe(greeting["id"]) is True
        with pytest.raises(zerorpc.RemoteError) as ended:
            list(live)
        assert ended.value.name == "Unsubscribed"
        wait_until(lambda: one.subscriptions() == [], "all subscriptions gone")
        assert {"publish", "subscribe"} <= set(one._zerorpc_inspect()["methods"])
