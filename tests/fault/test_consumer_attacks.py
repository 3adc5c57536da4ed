"""What a hostile or broken client can ask of durable consumers: its own harm, nobody else's.

Every argument of every method is tried with what makes no sense. After each attack a consumer
that works on is served, and one that nobody should have touched is as it was.
"""

import uuid

import msgpack
import pytest

from tests.processes import ServerProcess, client, wait_until
from tests.raw_peer import RawPeer
from zstreampub.errors import RequestError, by_name

MOST_CONSUMERS = 40
KEPT_BYTES = 48 << 20

GARBAGE: dict[str, object] = {
    "nil": None, "true": True, "minus one": -1, "a fraction": 1.5, "NaN": float("nan"), "infinity": float("inf"),
    "2**63": 2**63, "2**64 - 1": 2**64 - 1, "1e300": 1e300, "-2**63": -2**63, "no text": "", "text": "no such thing",
    "a newline": "a\nb", "200 KB of text": "x" * 200_000, "bytes": b"\xff\xfe", "an empty list": [],
    "a list of nil": [None], "a list in a list": [[[]]], "many lists": [[]] * 10_000, "a map": {"unknown": 1},
    "a map of maps": {"start": {"last": {}}}, "a map with a key in bytes": {b"count": 1},
    "deep": [[[[[[[[[[{}]]]]]]]]]], "a time": msgpack.Timestamp(5, 5),
}

# Arguments that are right, and for each that is tried the garbage that would be right there.
CALLS: dict[str, tuple[list, dict]] = {
    "ack": (["kept", 0, {}], {0: (), 1: ("an empty list",), 2: ("nil", "an empty map")}),
    "nack": (["kept", 0, {}], {0: (), 1: ("an empty list",), 2: ("nil",)}),
    "reject": (["kept", 0, {}], {0: (), 1: ("an empty list",), 2: ("nil",)}),
    "extend": (["kept", [], 0], {0: (), 1: ("an empty list",), 2: ("true", "a fraction")}),
    "fetch": (["kept", {}], {0: (), 1: ("nil",)}),
    "peek": (["kept"], {0: ()}),
    "browse": (["kept", {}], {0: (), 1: ("nil",)}),
    "replace": (["kept", 10**9, 1], {0: (), 1: ()}),
    "consumer": (["kept"], {0: ()}),
    "create_consumer": (["fresh", "kept.a", {}], {0: ("text",), 1: ("text", "2**63"), 2: ("nil",)}),
    "update_consumer": (["kept", {}], {0: (), 1: ("nil",)}),
    "seek": (["kept", "here"], {0: (), 1: ()}),
    "pause": (["nobody"], {0: ()}),
    "resume": (["nobody"], {0: ()}),
    "dead": (["kept", {}], {0: (), 1: ("nil",)}),
    "redrive": (["kept", {}], {0: (), 1: ("nil",)}),
    "purge": (["kept", {}], {0: (), 1: ("nil",)}),
    "clear_acked": (["kept", {}], {0: (), 1: ("nil",)}),
}

SETTINGS = ("mode", "ack_wait_s", "backoff_s", "jitter", "max_deliveries", "max_pending", "retention", "expired",
            "max_dead", "inactive_s")

# Options: method -> the arguments before them, and the options that are tried.
OPTIONS: dict[str, tuple[list, tuple]] = {
    "ack": (["kept", [10**9]], ("before",)),
    "nack": (["kept", [10**9]], ("delay_s", "reason")),
    "reject": (["kept", [10**9]], ("reason",)),
    "fetch": (["nobody"], ("count", "timeout_s", "offset")),
    "browse": (["kept"], ("first", "limit")),
    "dead": (["kept"], ("first", "limit")),
    "redrive": (["kept"], ("offsets", "topic")),
    "purge": (["kept"], ("offsets",)),
    "clear_acked": (["kept"], ("keep_latest", "max_delete")),
    "create_consumer": (["fresh", "kept.a"], ("start", *SETTINGS)),
    "update_consumer": (["nobody"], SETTINGS[1:]),
    "subscribe": (["kept.a"], ("consumer", "start", *SETTINGS, "max_in_flight", "max_bytes", "member", "held", "format",
                               "name")),
}

# The garbage that would be right as an option; nil is, but for format.
TEXT = ("no text", "text", "a newline")
RIGHT = {"ack_wait_s": ("a fraction",), "inactive_s": ("a fraction",), "delay_s": ("a fraction",), "member": TEXT,
         "name": TEXT, "reason": (*TEXT, "200 KB of text"), "backoff_s": ("an empty list",),
         "held": ("an empty list",), "offsets": ("an empty list",)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("attacked"), store="memory:", heartbeat_s=2,
                       max_consumers=MOST_CONSUMERS) as server:
        yield server


@pytest.fixture(scope="module")
def bystander(server):
    """Proof that a member of a consumer is served: it is given a message, and its ack counts."""
    with client(server, heartbeat=2) as reading, client(server, heartbeat=2) as one:
        one.create_consumer("kept", "kept.a", {"start": "earliest"})
        one.publish_many("kept.a", [1, 2, 3])
        one.fetch("kept", {"count": 2})
        stream = reading.subscribe("watch", {"consumer": "watch"})
        next(stream)
        number = 0

        def is_served():
            nonlocal number
            number += 1
            one.publish("watch", number)
            got = next(message for message in stream if "control" not in message)
            assert got["payload"] == number
            assert one.ack("watch", [[got["offset"], got["token"]]]) == 1
            return one.consumer("kept")

        yield is_served


@pytest.fixture
def attacked(server, bystander):
    """The server; afterwards, proof that only the attacker was harmed."""
    kept, before = bystander(), server.census()

    yield server

    assert _unmoved(bystander()) == _unmoved(kept)
    assert server.running
    wait_until(lambda: _left(server, before) == [], lambda: f"forgotten: {_left(server, before)}")


def _unmoved(described):
    return {name: described[name] for name in ("patterns", "mode", "settings", "paused", "members", "pending", "floor",
                                               "dead", "acked", "redelivered")}


def _left(server, before):
    after = server.census()
    return ([name for name in ("greenlets", "channels", "peers", "subscriptions") if after[name] > before[name]]
            + ["rss"] * (after["rss"] > before["rss"] + KEPT_BYTES))


def _refused(peer, method, args, tried):
    """Assert that the call is refused with an error that says what is wrong, and that the answer is small."""
    answer = peer.answer_to(peer.event(method, args))
    assert answer is not None, f"no answer to {tried}"
    name, value = answer
    assert name == "ERR", f"{tried} was answered with {value!r:.200}"
    kind, text, traceback = value
    assert issubclass(by_name(kind) or Exception, RequestError), f"{tried}: {kind} {text:.200}"
    assert text and traceback is None and len(text) < 2_000


@pytest.mark.parametrize(("method", "place"), [(method, place) for method, (_, places) in CALLS.items()
                                               for place in places])
def test_an_argument_that_makes_no_sense_is_refused(attacked, method, place):
    args, places = CALLS[method]
    with RawPeer(attacked.endpoint) as peer:
        for name, value in GARBAGE.items():
            if name not in places[place]:
                tried = list(args)
                tried[place] = value
                _refused(peer, method, tried, f"{method} with {name} as argument {place}")


@pytest.mark.parametrize(("method", "option"), [(method, option) for method, (_, options) in OPTIONS.items()
                                                for option in options])
def test_an_option_that_makes_no_sense_is_refused(attacked, method, option):
    args, _ = OPTIONS[method]
    with RawPeer(attacked.endpoint) as peer:
        for name, value in GARBAGE.items():
            if name not in RIGHT.get(option, ()) and (value is not None or option == "format"):
                join = {"consumer": "fresh" if option == "start" else "kept"} if method == "subscribe" else {}
                _refused(peer, method, [*args, {**join, option: value}], f"{method} with {name} as {option}")


@pytest.mark.parametrize("method", [*CALLS, "consumers", "delete_consumer"])
def test_a_wrong_number_of_arguments_is_refused(attacked, method):
    most = len(CALLS.get(method, [[]] if method == "consumers" else [["kept"]])[0])
    with RawPeer(attacked.endpoint) as peer:
        for args in ([None] * (most + 1), None, {}, "text", 5):
            _refused(peer, method, args, f"{method} with the arguments {args!r}")
        if most:
            _refused(peer, method, [], f"{method} without an argument")


@pytest.mark.parametrize("name", ["", ".", "a..b", "a b", "a*", ">", "$dead", "$dead.a", "a/b", "a\nb", "ä", "x" * 101,
                                  "x" * 1_000_000, ".".join("a" * 40), b"a", 5, None, [], {}],
                         ids=lambda name: repr(name)[:20])
def test_a_name_that_no_consumer_can_have_is_refused(attacked, name):
    with RawPeer(attacked.endpoint) as peer:
        _refused(peer, "create_consumer", [name, "a"], "a name")
        if name is not None:
            _refused(peer, "subscribe", ["a", {"consumer": name}], "a name")
        if isinstance(name, str):
            assert peer.answer_to(peer.event("delete_consumer", [name])) == ("OK", [False])
        else:
            _refused(peer, "delete_consumer", [name], "a name")


def test_there_are_no_more_consumers_than_the_limit(attacked):
    names = [f"flood-{number}" for number in range(MOST_CONSUMERS)]
    with client(attacked) as one, RawPeer(attacked.endpoint) as peer:
        there = len(one.consumers())
        for name in names[:MOST_CONSUMERS - there]:
            one.create_consumer(name, name)

        for name in names[MOST_CONSUMERS - there:]:
            _refused(peer, "create_consumer", [name, name], "one more")
            _refused(peer, "subscribe", [name, {"consumer": name}], "one more")

        for name in names[:MOST_CONSUMERS - there]:
            assert one.delete_consumer(name) is True


def test_thousands_of_deliveries_that_there_never_were_are_refused_in_one_call(attacked):
    with RawPeer(attacked.endpoint) as peer:
        _refused(peer, "ack", ["kept", [[offset, 5] for offset in range(10**9, 10**9 + 60_000)]], "60,000 deliveries")
        _refused(peer, "ack", ["kept", [[0, 2**53 - 1, 1]]], "all there can be")
        _refused(peer, "ack", ["kept", [[0, 100_000, 1]] * 10_000], "the same many times")
        _refused(peer, "subscribe", [None, {"consumer": "kept", "held": [[1, 1]] * 131_073}], "much to hold")


def test_what_was_settled_in_vain_a_thousand_times_harms_nobody(attacked):
    with RawPeer(attacked.endpoint) as peer:
        calls = [peer.event(verb, ["kept", [[number, number]], *([5] if verb == "extend" else [])])
                 for number in range(2**40, 2**40 + 500) for verb in ("ack", "nack", "reject", "extend")]

        answers = {peer.receive()[0]["response_to"] for _ in calls}

        assert answers == set(calls)


def test_whoever_asks_and_reads_nothing_is_not_answered_for_ever(attacked):
    with RawPeer(attacked.endpoint) as peer:
        for _ in range(20_000):
            peer.event("ack", ["kept", [[2**40, 1]]])
        with client(attacked) as one:
            assert one.consumer("kept")["pending"] == 2


def test_a_member_that_joins_and_leaves_a_hundred_times_leaves_nothing(attacked):
    name = f"c{uuid.uuid4().hex}"
    with client(attacked) as one:
        one.create_consumer(name, name)
        one.publish_many(name, list(range(50)))
        for _ in range(100):
            with RawPeer(attacked.endpoint) as peer:
                peer.event("_zpc_more", [100], response_to=peer.open_stream(name, {"consumer": name}))

        wait_until(lambda: one.consumer(name)["members"] == [], lambda: one.consumer(name))
        assert one.consumer(name)["pending"] + one.consumer(name)["dead"] <= 50
        assert one.delete_consumer(name) is True


def test_a_member_that_grants_nothing_holds_no_more_than_it_may_have_in_flight(attacked):
    name = f"c{uuid.uuid4().hex}"
    with client(attacked) as one, RawPeer(attacked.endpoint) as peer:
        one.create_consumer(name, name)
        one.publish_many(name, list(range(1_000)))
        peer.open_stream(name, {"consumer": name, "max_in_flight": 10})
        wait_until(lambda: one.consumer(name)["in_flight"] <= 10, "a few")

        others = one.fetch(name, {"count": 1_000})

        assert len(others) >= 990
        assert one.delete_consumer(name) is True
