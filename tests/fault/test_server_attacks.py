"""What a hostile or broken peer can send: its own harm, nobody else's.

After each attack a stream of another client still delivers, a new request is answered, and
the server has kept nothing of it.
"""

import os
import random
import resource
import socket
import struct
import uuid

import msgpack
import pytest

from tests.processes import ServerProcess, client, wait_until
from tests.raw_peer import RawPeer
from tests.serving import Watched

ID = b"0123456789abcdef"
KEPT_BYTES = 48 << 20       # how much one attack may leave behind in the allocator
KEPT_FDS = 8                # gevent opens a few when it first uses a thread
FOUR_BILLION = struct.pack(">BBHIQQIII", 1, 0, 1, 0xFFFFFFFF, 0, 0, 0, 0, 0) + b"a"

pack = msgpack.packb


class Exits(Watched):
    """A service with methods that try to take the server along."""

    def exits(self):
        raise SystemExit(3)

    def interrupts(self):
        raise KeyboardInterrupt

    def leaves(self):
        import greenlet
        raise greenlet.GreenletExit

    def cannot_say_why(self):
        class Broken(Exception):
            def __str__(self):
                raise RuntimeError("not even that")
        raise Broken

    def says_it_in_no_unicode(self):
        raise ValueError("\ud800")

    def answers_a_set(self):
        return {1, 2}

    def answers_what_vanishes(self):
        return {1: "an integer key"}



@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("attacked"), store="memory:", heartbeat_s=2, max_batch_bytes=1 << 20,
                       max_message_bytes=1 << 18, service="tests.fault.test_server_attacks.Exits") as server:
        with RawPeer(server.endpoint) as peer:
            peer.sync()
        yield server


@pytest.fixture(scope="module")
def bystander(server):
    """A client with a running stream; calling it proves that both are served."""
    with client(server, heartbeat=2) as one:
        stream = one.subscribe("watch.>")
        next(stream)
        number = 0

        def is_served():
            nonlocal number
            number += 1
            one.publish("watch.me", number)
            got = next(message for message in stream if "control" not in message)
            assert got["payload"] == number

        yield is_served


@pytest.fixture
def attacked(server, bystander):
    """The server; afterwards, proof that only the attacker was harmed."""
    bystander()
    before = server.census()

    yield server

    bystander()
    with client(server) as newcomer:
        assert newcomer.about()["next"] > 0
    assert server.running
    wait_until(lambda: _kept(server, before) == [], lambda: f"forgotten: {_kept(server, before)}")


def _kept(server, before):
    after = server.census()
    grown = [name for name in ("greenlets", "channels", "peers", "subscriptions", "stuck_peers")
             if after[name] > before[name]]
    return (grown + ["rss"] * (after["rss"] > before["rss"] + KEPT_BYTES)
            + ["fds"] * (after["fds"] > before["fds"] + KEPT_FDS))


def _request(name, args, **header):
    return pack([{"message_id": ID, "v": 3, **header}, name, args])


def _head(name):
    """Return a request up to its args, which the test appends as raw bytes."""
    return b"\x93" + pack({"message_id": ID, "v": 3}) + pack(name)


def _random_bytes(seed, size):
    return random.Random(seed).randbytes(size)


FRAMES_WITHOUT_ANSWER = {
    "no bytes at all": b"",
    "one zero byte": b"\0",
    "random bytes": _random_bytes(1, 100),
    "many random bytes": _random_bytes(2, 10_000),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "a truncated header": _request("about", [])[:20],
    "an array32 of 4G elements": b"\xdd\xff\xff\xff\xff",
    "a map32 of 4G elements": b"\xdf\xff\xff\xff\xff",
    "a bin32 of 4G bytes": b"\xc6\xff\xff\xff\xff",
    "a str32 of 4G bytes": b"\xdb\xff\xff\xff\xff",
    "an ext32 of 4G bytes": b"\xc9\xff\xff\xff\xff\x01",
    "an array nested 500 deep": b"\x91" * 500 + b"\xc0",
    "an array nested 100,000 deep": b"\x91" * 100_000 + b"\xc0",
    "a map nested 100,000 deep": b"\x81\xa1a" * 100_000 + b"\xc0",
    "a number": pack(7),
    "nil": pack(None),
    "an empty array": pack([]),
    "a map instead of an event": pack({"message_id": ID}),
    "an event of two": pack([{"message_id": ID, "v": 3}, "about"]),
    "an event of four": pack([{"message_id": ID, "v": 3}, "about", [], None]),
    "a header that is a list": pack([[ID], "about", []]),
    "a header that is nil": pack([None, "about", []]),
    "a header that is text": pack(["header", "about", []]),
    "an empty header": pack([{}, "about", []]),
    "a header with integer keys": pack([{1: 2}, "about", []]),
    "a message_id that is a list": pack([{"message_id": [1], "v": 3}, "about", []]),
    "a message_id that is a map": pack([{"message_id": {}, "v": 3}, "about", []]),
    "a message_id that is nil": pack([{"message_id": None, "v": 3}, "about", []]),
    "a message_id that is a number": pack([{"message_id": 5, "v": 3}, "about", []]),
    "an empty message_id": pack([{"message_id": b"", "v": 3}, "about", []]),
    "a message_id of 1 MB": pack([{"message_id": b"x" * 1_000_000, "v": 3}, "about", []]),
    "a response_to that is a list": pack([{"message_id": ID, "v": 3, "response_to": [1]}, "about", []]),
    "a response_to that is a map": pack([{"message_id": ID, "v": 3, "response_to": {}}, "about", []]),
    "a response_to that is nil": pack([{"message_id": ID, "v": 3, "response_to": None}, "about", []]),
    "a response_to that nobody knows": pack([{"message_id": ID, "v": 3, "response_to": b"nobody"}, "about", []]),
    "a heartbeat as the first event": _request("_zpc_hb", [0]),
    "a credit as the first event": _request("_zpc_more", [100]),
    "an unknown control as the first event": _request("_zpc_bye", [100]),
}


@pytest.mark.parametrize("frame", FRAMES_WITHOUT_ANSWER.values(), ids=FRAMES_WITHOUT_ANSWER.keys())
def test_a_frame_that_is_no_request_is_dropped_and_forgotten(attacked, frame):
    with RawPeer(attacked.endpoint) as peer:

        for _ in range(50):
            peer.send(frame)

        peer.sync()     # the same peer is still served


REFUSED = {
    "an unknown method": (_request("no_such_method", []), "UnknownMethod"),
    "a method without a name": (_request("", []), "UnknownMethod"),
    "__init__": (_request("__init__", []), "UnknownMethod"),
    "__class__": (_request("__class__", []), "UnknownMethod"),
    "_broker": (_request("_broker", []), "UnknownMethod"),
    "_publish": (_request("_publish", ["publish", "a", 1]), "UnknownMethod"),
    "close": (_request("close", []), "UnknownMethod"),
    "a method name of 1 MB": (_request("x" * 1_000_000, []), "UnknownMethod"),
    "a method name with a newline": (_request("x\n2026 ERROR forged", []), "UnknownMethod"),
    "a method name that is a list": (_request(["about"], []), "MalformedRequest"),
    "a method name that is a map": (_request({}, []), "MalformedRequest"),
    "a method name that is nil": (_request(None, []), "MalformedRequest"),
    "a method name in bytes": (_request(b"about", []), "MalformedRequest"),
    "arguments that are nil": (_request("about", None), "MalformedRequest"),
    "arguments that are a map": (_request("about", {"a": 1}), "MalformedRequest"),
    "arguments that are text": (_request("publish", "ab"), "MalformedRequest"),
    "arguments that are a number": (_request("subscribe", 5), "MalformedRequest"),
    "an argument too many": (_request("about", [1]), "MalformedRequest"),
    "an argument too few": (_request("publish", ["a"]), "MalformedRequest"),
    "no argument to publish": (_request("publish", []), "MalformedRequest"),
    "no argument to append": (_request("append", []), "MalformedRequest"),
    "four arguments to publish_many": (_request("publish_many", ["a", [1], {}, 4]), "MalformedRequest"),
    "three arguments to subscribe": (_request("subscribe", ["a", {}, 4]), "MalformedRequest"),
    "an integer map key": (_request("publish", ["a", {1: 2}]), "InvalidPayload"),
    "a nil map key": (_request("publish", ["a", {None: 2}]), "InvalidPayload"),
    "a topic that is no UTF-8": (_head("publish") + b"\x92\xa2\xff\xfe\x01", "InvalidPayload"),
    "a payload that is no UTF-8": (_head("publish") + b"\x92\xa1a\xa2\xff\xfe", "InvalidPayload"),
    "truncated arguments": (_head("publish") + b"\x92\xa1a", "InvalidPayload"),
    "something behind the event": (_request("about", []) + b"\xc0", "InvalidPayload"),
    "arguments of 4G elements": (_head("publish") + b"\xdd\xff\xff\xff\xff", "InvalidPayload"),
    "a payload of 4G elements": (_head("publish") + b"\x92\xa1a\xdd\xff\xff\xff\xff", "InvalidPayload"),
    "a payload of 4G bytes": (_head("publish") + b"\x92\xa1a\xc6\xff\xff\xff\xff", "InvalidPayload"),
    "a payload nested 100,000 deep": (_head("publish") + b"\x92\xa1a" + b"\x91" * 100_000 + b"\xc0",
                                      "InvalidPayload"),
    "a payload nested 1,022 deep": (_head("publish") + b"\x92\xa1a" + b"\x91" * 1_022 + b"\xc0", "InvalidPayload"),
    "the reserved msgpack byte": (_head("publish") + b"\x92\xa1a\xc1", "InvalidPayload"),
    "a timestamp of five bytes": (_head("publish") + b"\x92\xa1a\xc7\x05\xff12345", "InvalidPayload"),
    "a topic that is nil": (_request("publish", [None, 1]), "InvalidTopic"),
    "a topic that is a list": (_request("publish", [["a"], 1]), "InvalidTopic"),
    "a topic in bytes": (_request("publish", [b"a", 1]), "InvalidTopic"),
    "a topic that is empty": (_request("publish", ["", 1]), "InvalidTopic"),
    "a topic with a wildcard": (_request("publish", ["a.*", 1]), "InvalidTopic"),
    "a topic with a newline": (_request("publish", ["a\nb", 1]), "InvalidTopic"),
    "a topic of 256 bytes": (_request("publish", ["a" * 256, 1]), "InvalidTopic"),
    "a topic of 33 tokens": (_request("publish", [".".join("a" * 33), 1]), "InvalidTopic"),
    "a topic of 200 KB": (_request("publish", ["a" * 200_000, 1]), "InvalidTopic"),
    "options that are a list": (_request("publish", ["a", 1, [1]]), "InvalidOption"),
    "options that are text": (_request("publish", ["a", 1, "key"]), "InvalidOption"),
    "an unknown option": (_request("publish", ["a", 1, {"colour": 1}]), "InvalidOption"),
    "an option in bytes": (_request("publish", ["a", 1, {b"key": 1}]), "InvalidOption"),
    "a key that is a list": (_request("publish", ["a", 1, {"key": [1]}]), "InvalidPayload"),
    "a key that is a number": (_request("publish", ["a", 1, {"key": 1}]), "InvalidPayload"),
    "an empty key": (_request("publish", ["a", 1, {"key": ""}]), "InvalidPayload"),
    "a key of 256 bytes": (_request("publish", ["a", 1, {"key": b"k" * 256}]), "InvalidPayload"),
    "an id that is a map": (_request("publish", ["a", 1, {"id": {}}]), "InvalidPayload"),
    "headers that are a list": (_request("publish", ["a", 1, {"headers": [1]}]), "InvalidPayload"),
    "headers that are text": (_request("publish", ["a", 1, {"headers": "h"}]), "InvalidPayload"),
    "a header that is a list of its own": (_request("publish", ["a", 1, {"headers": {"h": []}}]), "InvalidPayload"),
    "a header name in bytes": (_request("publish", ["a", 1, {"headers": {b"h": 1}}]), "InvalidPayload"),
    "65 headers": (_request("publish", ["a", 1, {"headers": {str(n): n for n in range(65)}}]), "InvalidPayload"),
    "a producer without a sequence": (_request("publish", ["a", 1, {"producer": "p"}]), "InvalidOption"),
    "a producer that is a list": (_request("publish", ["a", 1, {"producer": [], "sequence": 1}]), "InvalidOption"),
    "an empty producer": (_request("publish", ["a", 1, {"producer": "", "sequence": 1}]), "InvalidOption"),
    "a negative sequence": (_request("publish", ["a", 1, {"producer": "p", "sequence": -1}]), "InvalidOption"),
    "a sequence of 2**63": (_request("publish", ["a", 1, {"producer": "p", "sequence": 2**63}]), "InvalidOption"),
    "a sequence that is true": (_request("publish", ["a", 1, {"producer": "p", "sequence": True}]), "InvalidOption"),
    "a deadline that is text": (_request("publish", ["a", 1, {"deadline": "soon"}]), "InvalidOption"),
    "a deadline that is NaN": (_request("publish", ["a", 1, {"deadline": float("nan")}]), "InvalidOption"),
    "a deadline in the past": (_request("publish", ["a", 1, {"deadline": 1}]), "DeadlineExceeded"),
    "payloads that are a number": (_request("publish_many", ["a", 1]), "InvalidPayload"),
    "payloads that are text": (_request("publish_many", ["a", "abc"]), "InvalidPayload"),
    "payloads that are a map": (_request("publish_many", ["a", {"a": 1}]), "InvalidPayload"),
    "no payloads": (_request("publish_many", ["a", []]), "BatchTooLarge"),
    "more payloads than a batch may have": (_request("publish_many", ["a", [0] * 65_537]), "BatchTooLarge"),
    "more payloads than a frame may have": (_request("publish_many", ["a", [0] * 200_000]), "InvalidPayload"),
    "fewer keys than payloads": (_request("publish_many", ["a", [1, 2], {"keys": ["k"]}]), "InvalidPayload"),
    "keys that are a number": (_request("publish_many", ["a", [1], {"keys": 1}]), "InvalidOption"),
    "ids that are text": (_request("publish_many", ["a", [1], {"ids": "i"}]), "InvalidOption"),
    "headers that are a list of text": (_request("publish_many", ["a", [1], {"headers": ["h"]}]), "InvalidPayload"),
    "one payload over the limit": (_request("publish", ["a", b"x" * (1 << 18)]), "MessageTooLarge"),
    "a batch over the limit": (_request("publish_many", ["a", [b"x" * 215_000] * 5]), "BatchTooLarge"),
    "batches that are nil": (_request("append", [None]), "InvalidBatch"),
    "batches that are a map": (_request("append", [{}]), "InvalidBatch"),
    "no batches": (_request("append", [[]]), "InvalidBatch"),
    "too many batches": (_request("append", [[b""] * 4097]), "InvalidBatch"),
    "an empty batch": (_request("append", [[b""]]), "InvalidBatch"),
    "a batch that is text": (_request("append", [["a"]]), "InvalidBatch"),
    "a batch of zeros": (_request("append", [[bytes(100)]]), "InvalidBatch"),
    "a batch of random bytes": (_request("append", [[b"\1\0" + _random_bytes(3, 200)]]), "InvalidBatch"),
    "a batch of 4G messages": (_request("append", [[FOUR_BILLION]]), "BatchTooLarge"),
    "patterns that are a number": (_request("subscribe", [5]), "InvalidTopic"),
    "patterns that are a map": (_request("subscribe", [{}]), "InvalidTopic"),
    "no patterns in the list": (_request("subscribe", [[]]), "LimitExceeded"),
    "a pattern that is a list": (_request("subscribe", [[["a"]]]), "InvalidTopic"),
    "a pattern that is nil": (_request("subscribe", [[None]]), "InvalidTopic"),
    "a pattern with > in the middle": (_request("subscribe", ["a.>.b"]), "InvalidTopic"),
    "too many patterns": (_request("subscribe", [["a"] * 1000]), "LimitExceeded"),
    "an unknown start": (_request("subscribe", ["a", {"start": "yesterday"}]), "InvalidOption"),
    "a start that is a list": (_request("subscribe", ["a", {"start": []}]), "InvalidOption"),
    "a start that is NaN": (_request("subscribe", ["a", {"start": float("nan")}]), "InvalidOption"),
    "a start that is infinite": (_request("subscribe", ["a", {"start": float("inf")}]), "InvalidOption"),
    "a start below 0": (_request("subscribe", ["a", {"start": -1}]), "OffsetOutOfRange"),
    "a start of 2**63": (_request("subscribe", ["a", {"start": 2**63}]), "OffsetOutOfRange"),
    "a start of 1e300": (_request("subscribe", ["a", {"start": 1e300}]), "OffsetOutOfRange"),
    "a time that is NaN": (_request("subscribe", ["a", {"start": {"time": float("nan")}}]), "InvalidOption"),
    "a time that is text": (_request("subscribe", ["a", {"start": {"time": "noon"}}]), "InvalidOption"),
    "a time of 1e300": (_request("subscribe", ["a", {"start": {"time": 1e300}}]), "InvalidOption"),
    "the last -1": (_request("subscribe", ["a", {"start": {"last": -1}}]), "InvalidOption"),
    "the last 2**64 - 1": (_request("subscribe", ["a", {"start": {"last": 2**64 - 1}}]), "InvalidOption"),
    "a start of two kinds": (_request("subscribe", ["a", {"start": {"last": 1, "time": 1}}]), "InvalidOption"),
    "an empty start": (_request("subscribe", ["a", {"start": {}}]), "InvalidOption"),
    "an until that is text": (_request("subscribe", ["a", {"until": "tomorrow"}]), "InvalidOption"),
    "an until below 0": (_request("subscribe", ["a", {"until": -1}]), "InvalidOption"),
    "an epoch that is a list": (_request("subscribe", ["a", {"epoch": []}]), "EpochMismatch"),
    "a policy that nobody knows": (_request("subscribe", ["a", {"policy": "hope"}]), "InvalidOption"),
    "a policy that is a list": (_request("subscribe", ["a", {"policy": []}]), "InvalidOption"),
    "a policy that is a map": (_request("subscribe", ["a", {"policy": {"a": 1}}]), "InvalidOption"),
    "a queue of 0": (_request("subscribe", ["a", {"max_messages": 0}]), "InvalidOption"),
    "a queue of 2**40": (_request("subscribe", ["a", {"max_bytes": 2**40}]), "InvalidOption"),
    "a queue of NaN": (_request("subscribe", ["a", {"max_bytes": float("nan")}]), "InvalidOption"),
    "a block_timeout_s of infinity": (_request("subscribe", ["a", {"block_timeout_s": float("inf")}]), "InvalidOption"),
    "a format that nobody knows": (_request("subscribe", ["a", {"format": "xml"}]), "InvalidOption"),
    "a format that is a list": (_request("subscribe", ["a", {"format": []}]), "InvalidOption"),
    "a name that is a number": (_request("subscribe", ["a", {"name": 5}]), "InvalidOption"),
    "a name of 256 characters": (_request("subscribe", ["a", {"name": "n" * 256}]), "InvalidOption"),
    "get of text": (_request("get", ["a"]), "InvalidOption"),
    "get of a list": (_request("get", [[]]), "InvalidOption"),
    "get of -1": (_request("get", [-1]), "InvalidOption"),
    "get of 2**64 - 1": (_request("get", [2**64 - 1]), "InvalidOption"),
    "last of a number": (_request("last", [1]), "InvalidTopic"),
    "last of a pattern": (_request("last", ["a.>"]), "InvalidTopic"),
    "last of a key that is a list": (_request("last", ["a", [1]]), "InvalidOption"),
    "last of a key that is a map": (_request("last", ["a", {}]), "InvalidOption"),
    "topics of a number": (_request("topics", [5]), "InvalidTopic"),
    "topics of a map": (_request("topics", [{}]), "InvalidTopic"),
    "topics of a bad pattern": (_request("topics", ["a.>.b"]), "InvalidTopic"),
    "a v that is text": (pack([{"message_id": ID, "v": "three"}, "no_such_method", []]), "UnknownMethod"),
    "a header's v that is missing": (pack([{"message_id": ID}, "no_such_method", []]), "UnknownMethod"),
    "a header's v of 1": (pack([{"message_id": ID, "v": 1}, "no_such_method", []]), "UnknownMethod"),
    "a header's v of 2**64 - 1": (pack([{"message_id": ID, "v": 2**64 - 1}, "no_such_method", []]), "UnknownMethod"),
    "a header of 1,000 keys": (_request("no_such_method", [], **{f"k{n}": n for n in range(1000)}), "UnknownMethod"),
    "a method that raises SystemExit": (_request("exits", []), "SystemExit"),
    "a method that raises KeyboardInterrupt": (_request("interrupts", []), "KeyboardInterrupt"),
    "a method that raises GreenletExit": (_request("leaves", []), "GreenletExit"),
    "a method whose error has no text": (_request("cannot_say_why", []), "InternalError"),
    "a method whose error is no unicode": (_request("says_it_in_no_unicode", []), "InternalError"),
    "a method that answers what msgpack has not": (_request("answers_a_set", []), "InvalidPayload"),
    "a method that answers what would vanish": (_request("answers_what_vanishes", []), "InvalidPayload"),
}


@pytest.mark.parametrize("frame, error", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_that_is_wrong_is_answered_with_an_error(attacked, frame, error):
    with RawPeer(attacked.endpoint) as peer:

        peer.send(frame)

        name, args = peer.answer_to(ID)
        assert name == "ERR"
        assert args[0] == error
        assert isinstance(args[1], str) and len(args[1]) < 1000
        assert args[2] is None, "a traceback must not cross the wire"
        peer.sync()


@pytest.mark.parametrize("parts", [1, 3, 4, 5, 6, 1000])
def test_a_message_of_any_number_of_parts_is_dropped(attacked, parts):
    with RawPeer(attacked.endpoint) as peer:

        peer.send_parts(*[_request("about", [])] * parts)
        peer.send_parts(*[b""] * parts)
        peer.send_parts(b"not empty", _request("about", []))

        peer.sync()


def test_a_frame_over_the_limit_cuts_its_sender_off_and_nobody_else(attacked):
    with RawPeer(attacked.endpoint) as peer:

        peer.event("publish", ["a", b"x" * (8 << 20)])

        assert peer.receive(deadline_s=0.5) is None
    with RawPeer(attacked.endpoint) as peer:
        peer.sync()


def test_a_thousand_kinds_of_garbage_harm_nobody(attacked):
    chance = random.Random(7)
    good = [_request(name, args) for name, args in
            [("publish", ["a.b", {"k": [1, 2.5, "text", b"bytes"]}, {"key": "k", "headers": {"h": 1}}]),
             ("subscribe", [["a.>", "b"], {"start": "earliest", "until": "end"}]), ("topics", [">"])]]
    with RawPeer(attacked.endpoint) as peer:

        for number in range(3_000):
            frame = bytearray(chance.choice(good))
            for _ in range(chance.randrange(1, 4)):
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            peer.send(bytes(frame[:chance.randrange(len(frame))] if number % 5 == 0 else frame))

        peer.sync()


@pytest.mark.parametrize("element", [b"\x90", b"\x80", b"\xd4\x05x"], ids=["lists", "maps", "ext values"])
def test_a_frame_that_unpacks_to_millions_of_things_costs_little(tmp_path, element):
    with ServerProcess(tmp_path, store="memory:", heartbeat_s=1) as server, client(server, heartbeat=1) as other:
        stream = other.subscribe("watch")
        next(stream)
        many = b"\xdd" + struct.pack(">I", 40_000) + element * 40_000
        with RawPeer(server.endpoint) as peer:
            for method in ("publish", "publish_many"):

                peer.send(_head(method) + b"\x92\xa1a" + b"\xdc" + struct.pack(">H", 120) + many * 120)

                name, args = peer.answer_to(ID)
                assert (name, args[0]) == ("ERR", "InvalidPayload")
                assert server.peak_rss() < 400 << 20
        other.publish("watch", "still here")
        assert next(item for item in stream if "payload" in item)["payload"] == "still here"


def test_two_requests_with_one_message_id_end_in_one_answer(attacked):
    with RawPeer(attacked.endpoint) as peer:
        first = peer.open_stream("twice.>")

        peer.send(pack([{"message_id": first, "v": 3}, "subscribe", ["twice.>"]]))
        peer.send(pack([{"message_id": first, "v": 3}, "about", []]))
        peer.event("_zpc_more", [10], response_to=first)
        answer = peer.answer_to(peer.event("publish", ["twice.a", 1]))

        assert answer[0] == "OK"
        assert len(_subscriptions(attacked, "twice.>")) == 1


CREDITS = {"negative": [-1000], "a float": [1e300], "NaN": [float("nan")], "text": ["many"], "a list": [[5]],
           "nothing": [], "nil": None, "a map": {"a": 1}, "a number": 5, "true": [True]}


@pytest.mark.parametrize("args", CREDITS.values(), ids=CREDITS.keys())
def test_a_credit_of_nonsense_neither_opens_the_flood_nor_closes_the_stream(attacked, args):
    with RawPeer(attacked.endpoint) as peer, client(attacked) as publisher:
        channel = peer.open_stream("credit.>")
        publisher.publish_many("credit.a", list(range(3_000)))

        for _ in range(20):
            peer.event("_zpc_more", args, response_to=channel)
        peer.sync()
        peer.event("_zpc_more", [12], response_to=channel)

        got = [peer.answer_to(channel)[1]["payload"] for _ in range(10)]
        assert got == list(range(10))
        assert peer.answer_to(channel, deadline_s=0.2) is None


def test_a_credit_without_measure_is_cut_to_what_the_server_allows(attacked):
    with RawPeer(attacked.endpoint) as peer, client(attacked) as publisher:
        channel = peer.open_stream("flood.>")
        publisher.publish_many("flood.a", list(range(3_000)))

        for _ in range(20):
            peer.event("_zpc_more", [2**64 - 1], response_to=channel)

        got = []
        while (item := peer.answer_to(channel, deadline_s=0.3)) is not None:
            got.append(item[1]["payload"])
        assert got == list(range(len(got)))
        assert 900 < len(got) <= 20 * 1_000


def test_nobody_can_grant_credit_on_a_stream_of_another_connection(attacked):
    with RawPeer(attacked.endpoint) as victim, RawPeer(attacked.endpoint) as stranger, client(attacked) as publisher:
        channel = victim.open_stream("mine.>")
        publisher.publish_many("mine.a", list(range(100)))

        stranger.event("_zpc_more", [100], response_to=channel)
        stranger.event("_zpc_hb", [0], response_to=channel)
        stranger.sync()

        assert victim.answer_to(channel, deadline_s=0.2) is None


@pytest.mark.parametrize("name", ["_zpc_more", "_zpc_hb", "junk"])
def test_thousands_of_events_on_a_stream_that_is_being_closed_stop_nobody(attacked, name):
    with RawPeer(attacked.endpoint) as peer, client(attacked) as publisher:
        publisher.publish_many("closing.a", list(range(50)))

        for _ in range(5):
            channel = peer.event("subscribe", ["closing.>", {"start": {"last": 50}, "until": "end"}])
            for number in range(1_500):
                peer.event(name, [number], response_to=channel)
        peer.sync()


def test_junk_events_in_ones_own_stream_are_ignored(attacked):
    with RawPeer(attacked.endpoint) as peer, client(attacked) as publisher:
        channel = peer.open_stream("junk.>")

        for _ in range(2_000):
            peer.event("junk", ["x" * 1_000], response_to=channel)
            peer.event("STREAM_DONE", None, response_to=channel)
            peer.event("ERR", ["a", "b", "c"], response_to=channel)
        peer.event("_zpc_more", [100], response_to=channel)
        publisher.publish("junk.a", "still here")

        assert peer.answer_to(channel)[1]["payload"] == "still here"


def test_a_connection_that_asks_for_too_many_streams_is_refused_and_others_are_not(attacked):
    with RawPeer(attacked.endpoint) as peer:
        for _ in range(5_000):
            peer.event("subscribe", ["many.>"])
        wait_until(lambda: len(_subscriptions(attacked, "many.>")) == 5_000, "5,000 subscriptions")

        answer = peer.answer_to(peer.event("subscribe", ["many.>"]))

        assert answer[0] == "ERR" and answer[1][0] == "LimitExceeded"
        with client(attacked) as other:
            assert next(other.subscribe("many.>"))["control"] == "subscribed"


def test_a_peer_that_asks_and_never_reads_costs_bounded_memory(attacked):
    with client(attacked) as publisher:
        offset = publisher.publish("large.a", b"x" * 20_000)
    before = attacked.rss()
    with RawPeer(attacked.endpoint) as peer:

        for number in range(20_000):        # 400 MB of answers
            peer.event("get", [offset])
            if number % 1_000 == 0:
                with client(attacked) as other:
                    assert other.about()["next"] > 0

        with client(attacked) as other:
            assert other.about()["next"] > 0
        assert attacked.rss() < before + (128 << 20)


def test_a_peer_that_sends_bad_requests_and_never_reads_costs_bounded_memory(attacked):
    before = attacked.rss()
    with RawPeer(attacked.endpoint) as peer:

        for number in range(100_000):
            peer.event("publish", ["a", {1: 2}])
            if number % 10_000 == 0:
                with client(attacked) as other:
                    assert other.about()["next"] > 0

        assert attacked.rss() < before + (64 << 20)


def test_many_connections_that_say_nothing_harm_nobody(attacked):
    peers = [RawPeer(attacked.endpoint) for _ in range(300)]

    for number, peer in enumerate(peers):
        if number % 2:
            peer.send(os.urandom(50))
    peers[-1].sync()

    for peer in peers:
        peer.__exit__()


def test_more_connections_than_the_soft_limit_of_files_are_served(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        server = ServerProcess(tmp_path, store="memory:")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with server:
        peers = [RawPeer(server.endpoint) for _ in range(100)]

        for peer in peers:
            peer.sync()

        assert server.fds() > 100
        for peer in peers:
            peer.__exit__()


def test_the_log_of_many_bad_frames_is_short(attacked):
    before = len(attacked.log())
    with RawPeer(attacked.endpoint) as peer:

        for _ in range(5_000):
            peer.send(_random_bytes(4, 100))
            peer.send(_request("publish", ["a", {1: 2}], message_id=uuid.uuid4().bytes))
        peer.sync()

        assert len(attacked.log()) - before < 10_000


def _subscriptions(server, pattern):
    with client(server) as asking:
        return [one for one in asking.subscriptions() if one["patterns"] == [pattern]]


ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)

BYTES_ON_THE_SOCKET = {
    "nothing": b"", "random bytes": _random_bytes(5, 5_000), "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "half a greeting": ZMTP_GREETING[:20], "a greeting and nothing": ZMTP_GREETING,
    "a greeting and random bytes": ZMTP_GREETING + _random_bytes(6, 5_000),
    "a greeting and a frame of 2**63 bytes": ZMTP_GREETING + b"\x02" + b"\x7f" + b"\xff" * 7,
    "a command of 2**63 bytes": ZMTP_GREETING + b"\x06" + b"\x7f" + b"\xff" * 7,
    "a greeting of the oldest version": b"\x01\x00",
}


@pytest.mark.parametrize("sent", BYTES_ON_THE_SOCKET.values(), ids=BYTES_ON_THE_SOCKET.keys())
def test_bytes_that_are_no_zeromq_harm_nobody(attacked, sent):
    host, _, port = attacked.endpoint.removeprefix("tcp://").rpartition(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(20)]

    for one in sockets:
        one.sendall(sent)

    with client(attacked) as other:
        for _ in range(20):
            assert other.about()["next"] > 0
    for one in sockets:
        one.close()
