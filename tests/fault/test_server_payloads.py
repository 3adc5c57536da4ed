"""What can be published by a stock client, comes out as it went in; what cannot is refused, not lost."""

import math

import msgpack
import pytest
import zerorpc

from tests.processes import ServerProcess, client, messages

LARGEST = 1 << 18
LARGEST_BATCH = 1 << 20
BIN_HEADER = 5      # of a msgpack bin32

CARRIED = {
    "None": None, "true": True, "zero": 0, "a negative number": -1, "the largest integer": 2**64 - 1,
    "the smallest integer": -2**63, "a float": 0.1, "infinity": math.inf, "minus zero": -0.0,
    "no bytes": b"", "no text": "", "all bytes": bytes(range(256)), "bytes that are no UTF-8": b"\xff\xfe",
    "text with a zero": "a\0b", "text of many scripts": "größe 日本語 \U0001f600 \u202e",
    "an empty list": [], "an empty map": {}, "nested maps": {"a": {"b": [{"c": [None, {"d": b"e"}]}]}},
    "a map with bytes for keys": {b"a": 1, "b": 2}, "a list nested 200 deep": msgpack.unpackb(b"\x91" * 200 + b"\xc0"),
    "a timestamp": msgpack.Timestamp(1, 5), "an ext type": msgpack.ExtType(42, b"x"),
    "a map that looks like a control": {"control": "end", "why": "until"},
    "50,000 numbers": list(range(50_000)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("payloads"), max_message_bytes=LARGEST, max_batch_bytes=LARGEST_BATCH,
                       keepalive_s=60) as server:
        yield server


@pytest.fixture
def publisher(server):
    with client(server) as one:
        yield one


def _all_ways(publisher, topic, offset):
    """Return the payload at *offset* as each way of reading shows it."""
    replayed = messages(publisher.subscribe(topic, {"start": offset, "until": offset + 1}))
    assert [message["offset"] for message in replayed] == [offset]
    return [replayed[0]["payload"], publisher.get(offset)["payload"], publisher.last(topic)["payload"]]


@pytest.mark.parametrize("payload", CARRIED.values(), ids=CARRIED.keys())
def test_a_payload_arrives_as_it_was_published(publisher, payload):
    live = publisher.subscribe("carried")
    next(live)

    offset = publisher.publish("carried", payload)
    first, behind = publisher.publish_many("carried", [payload, payload])

    got = [next(live)["payload"] for _ in range(3)] + _all_ways(publisher, "carried", behind - 1)
    assert behind == first + 2 and first > offset
    assert got == [payload] * 6
    assert [type(one) for one in got] == [type(payload)] * 6


def test_nan_arrives_as_nan(publisher):
    offset = publisher.publish("nan", math.nan)

    assert all(math.isnan(payload) for payload in _all_ways(publisher, "nan", offset))


def test_a_payload_of_exactly_the_limit_arrives_and_one_byte_more_is_refused(publisher):
    largest = b"x" * (LARGEST - BIN_HEADER)

    offset = publisher.publish("limit", largest)
    with pytest.raises(zerorpc.RemoteError) as refused:
        publisher.publish("limit", largest + b"x")

    assert refused.value.name == "MessageTooLarge"
    assert str(LARGEST) in refused.value.msg
    assert _all_ways(publisher, "limit", offset) == [largest] * 3


def test_a_batch_over_the_limit_is_refused_as_a_whole(publisher):
    fits = [b"x" * 200_000] * 5

    publisher.publish_many("batches", fits)
    with pytest.raises(zerorpc.RemoteError) as refused:
        publisher.publish_many("batches", [b"x" * 200_000] * 5 + [b"x" * 60_000])

    assert refused.value.name == "BatchTooLarge"
    assert [topic["messages"] for topic in publisher.topics("batches")] == [5]


def test_one_bad_payload_among_good_ones_stores_none_of_them(publisher):
    with pytest.raises(zerorpc.RemoteError) as refused:
        publisher.publish_many("none", [1, b"x" * LARGEST, 3])

    assert refused.value.name == "MessageTooLarge"
    assert publisher.topics("none") == []


@pytest.mark.parametrize("topic", ["größe.日本.\U0001f600", "a" * 255, ".".join("a" * 32), "a-b_c.D:e/f", "$system.a"])
def test_a_topic_of_any_script_is_carried(publisher, topic):
    offset = publisher.publish(topic, 1)

    assert publisher.get(offset)["topic"] == topic
    assert [one["topic"] for one in publisher.topics(topic)] == [topic]
    items = publisher.subscribe(topic, {"start": "earliest", "until": "end"})
    assert [message["topic"] for message in messages(items)] == [topic]


@pytest.mark.parametrize("topic", ["", ".", "a.", ".a", "a..b", "a b", "a\nb", "a\0b", "a.*", ">", "x" * 256,
                                   "é" * 128, ".".join("a" * 33), "\x7f"])
def test_a_topic_that_is_none_is_refused_by_name(publisher, topic):
    with pytest.raises(zerorpc.RemoteError) as refused:
        publisher.publish(topic, 1)

    assert refused.value.name == "InvalidTopic"


def test_headers_key_and_id_arrive_as_they_were_published(publisher):
    headers = {"text": "t", "bytes": b"\xff", "number": 2**63, "float": 0.5, "true": True, "nil": None, "é": ""}

    offset = publisher.publish("extras", 1, {"headers": headers, "key": b"\x00\xff", "id": "größe"})

    message = publisher.get(offset)
    assert (message["headers"], message["key"], message["id"]) == (headers, b"\x00\xff", "größe")
    assert publisher.last("extras", b"\x00\xff")["offset"] == offset
    assert publisher.last("extras", "another") is None


def test_a_payload_that_is_no_msgpack_is_the_error_of_its_own_message(publisher):
    from zstreampub.message import Batch

    batch = Batch.assemble("opaque", [b"\xc0", b"\xc1", b"\x91", b"\x01\x02", b"\x07"], {})

    first, = publisher.append([batch.packed])

    got = messages(publisher.subscribe("opaque", {"start": first, "until": first + 5}))
    assert [message["payload"] for message in got] == [None, b"\xc1", b"\x91", b"\x01\x02", 7]
    assert [message.get("error") for message in got] == [None, *["InvalidPayload"] * 3, None]
