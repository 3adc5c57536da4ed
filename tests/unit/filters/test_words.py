"""The words of filters: what each passes, and what is refused, at the limit and beyond it."""

import math

import pytest

from zstreampub.errors import InvalidOption
from zstreampub.filters.chain import Chain
from zstreampub.filters.opened import OpenedBatch
from zstreampub.filters.sieve import Sieve
from zstreampub.filters.words import check_filters
from zstreampub.message import Batch, Message


def passes(where, payload=None, key=None, headers=None, topic="orders.eu", id=None):
    """Whether a message passes *where*, by a chain; a sieve on a batch of three of them agrees."""
    message = Message(topic, 7, 12.5, payload, key, id, headers)
    batch = Batch.of(topic, [payload] * 3, [key] * 3, [id] * 3, [headers] * 3)
    batch.seal(7, 12_500_000)
    passed = Chain({"where": where})(message) is message
    kept = sum(part.count for part in Sieve({"where": where}).parts(OpenedBatch(batch)) if part is not None)
    assert kept == (3 if passed else 0) or "offset" in where
    return passed


@pytest.mark.parametrize("where, payload", [
    ({"payload.status": "paid"}, {"status": "paid", "total": 1}),
    ({"payload.n": 2}, {"n": 2.0}),
    ({"payload.n": True}, {"n": True}),
    ({"payload.n": None}, {"n": None}),
    ({"payload.n": b"x"}, {"n": b"x"}),
    ({"payload": "text"}, "text"),
    ({"payload.a.b.c": 1}, {"a": {"b": {"c": 1}}}),
    ({"payload.total": {"ge": 10, "lt": 100}}, {"total": 10}),
    ({"payload.total": {"gt": 9, "le": 10}}, {"total": 10}),
    ({"payload.name": {"ge": "b", "lt": "c"}}, {"name": "bob"}),
    ({"payload.name": {"ge": b"b"}}, {"name": b"bob"}),
    ({"payload.region": {"in": ["eu", "us"]}}, {"region": "us"}),
    ({"payload.n": {"in": [1, None]}}, {"n": None}),
    ({"payload.n": {"not_in": [1, 2]}}, {"n": 3}),
    ({"payload.n": {"not_in": [1, 2]}}, {}),
    ({"payload.n": {"ne": 1}}, {"n": "1"}),
    ({"payload.n": {"ne": 1}}, "no map at all"),
    ({"payload.n": {"exists": True}}, {"n": None}),
    ({"payload.n": {"exists": False}}, {"m": 1}),
    ({"payload.n": {"exists": False}}, [1]),
])
def test_a_payload_that_fulfils_the_conditions_passes(where, payload):
    assert passes(where, payload)


@pytest.mark.parametrize("where, payload", [
    ({"payload.status": "paid"}, {"status": b"paid"}),
    ({"payload.n": 1}, {"n": True}),
    ({"payload.n": 0}, {"n": False}),
    ({"payload.n": True}, {"n": 1}),
    ({"payload.n": 1}, {"n": "1"}),
    ({"payload.n": None}, {}),
    ({"payload.n": {"in": [0, 1]}}, {"n": True}),
    ({"payload.n": {"in": [0, 1]}}, {"n": [0]}),
    ({"payload.n": {"ge": 0}}, {"n": True}),
    ({"payload.n": {"ge": 0}}, {"n": "5"}),
    ({"payload.n": {"ge": 0}}, {"n": math.nan}),
    ({"payload.n": {"ge": 0}}, {}),
    ({"payload.n": {"ge": 0, "lt": 5}}, {"n": 5}),
    ({"payload.n.m": 1}, {"n": 1}),
    ({"payload.n": 1, "payload.m": 1}, {"n": 1, "m": 2}),
    ({"payload.n": {"exists": True}}, {}),
])
def test_a_payload_that_does_not_is_left_out(where, payload):
    assert not passes(where, payload)


@pytest.mark.parametrize("where, passed", [
    ({"key": "k"}, True), ({"key": b"k"}, False), ({"key": {"exists": False}}, False),
    ({"id": {"exists": False}}, True),
    ({"topic": "orders.eu"}, True), ({"topic": {"in": ["orders.us"]}}, False), ({"offset": {"lt": 8}}, True),
    ({"time": {"ge": 12.5}}, True), ({"headers.region": "eu"}, True), ({"headers.x.y": 1}, True),
    ({"headers.other": {"exists": True}}, False),
])
def test_the_other_fields_of_a_message_can_be_looked_at(where, passed):
    assert passes(where, {"n": 1}, key="k", headers={"region": "eu", "x.y": 1}) is passed


def test_a_message_without_headers_and_key_has_none_of_these_fields():
    assert passes({"headers.region": {"exists": False}, "key": {"exists": False, "ne": "k"}}, 1)
    assert not passes({"headers.region": "eu"}, 1)


@pytest.mark.parametrize("values, passed", [
    ([1, 2.5, 3], [1, 2.5, 3]), ([1, math.nan, 3], [1, 3]), ([math.nan, 1], [1]), ([3, math.inf, -math.inf], [3]),
    ([1, True, 3], [1, 3]), ([0, 1, 2], [1, 2]), ([1, 10], [1]), ([1 << 63, 1.0], [1.0]), ([1, "2", None, b"3"], [1]),
])
def test_a_range_holds_of_each_number_of_a_batch_by_itself(values, passed):
    batch = Batch.of("a", values)

    parts = Sieve({"where": {"payload": {"ge": 1, "lt": 10}}}).parts(OpenedBatch(batch))

    assert [payload for part in parts for payload in part.payloads] == passed


def test_a_number_that_no_float_can_hold_is_compared_all_the_same():
    assert Chain({"where": {"payload": {"ge": 1}}})(10 ** 400) == 10 ** 400
    assert Chain({"where": {"payload": {"lt": 1.5}}})(10 ** 400) is None


def test_max_size_counts_the_bytes_of_the_packed_payload():
    batch = Batch.of("a", [b"x" * 98, b"x" * 99])       # as bin 8: two bytes more

    (part,) = Sieve({"max_size": 100}).parts(OpenedBatch(batch))

    assert part.payloads == [b"x" * 98]
    assert Chain({"max_size": 100})(Message("a", 0, 1.0, b"x" * 98)) is not None
    assert Chain({"max_size": 100})(Message("a", 0, 1.0, b"x" * 99)) is None


def test_filters_are_applied_in_order_and_see_what_passed_before():
    batch = Batch.of("a", list(range(12)))

    first = Sieve([{"every": 3}, {"where": {"payload": {"ge": 5}}}]).parts(OpenedBatch(batch))
    second = Sieve([{"where": {"payload": {"ge": 5}}}, {"every": 3}]).parts(OpenedBatch(batch))

    assert [payload for part in first for payload in part.payloads] == [6, 9]
    assert [payload for part in second for payload in part.payloads] == [5, 8, 11]


def test_a_filter_that_needs_no_payload_opens_none(monkeypatch):
    batch = Batch.of("a", [{"n": 1}] * 5, keys=list("abcab"), headers=[{"h": 1}] * 5)
    for opening in ("values", "named"):
        monkeypatch.setattr(OpenedBatch, opening, lambda *_: pytest.fail("a payload was opened"))
    filters = [{"max_size": 10}, {"where": {"headers.h": 1, "key": {"in": ["a", "b"]}, "topic": "a"}},
               {"min_period": 0.1, "by": "arrival", "per": "key"}, {"every": 1}]

    parts = list(Sieve(filters).parts(OpenedBatch(batch)))

    assert sum(part.count for part in parts) == 2


def test_conditions_on_payloads_are_looked_at_last():
    batch = Batch.of("a", [{"n": 1}] * 5, keys=list("abcab"))
    looked = []

    class Counted(OpenedBatch):
        def named(self, name, stop):
            looked.append(stop)
            return super().named(name, stop)

    parts = list(Sieve({"where": {"payload.n": 1, "key": "z"}}).parts(Counted(batch)))

    assert (parts, looked) == ([], [])


def test_a_payload_that_is_no_msgpack_has_no_fields_and_harms_no_other():
    good = Batch.of("a", [{"n": 1}])
    raws = [good.raw_payloads[0], b"\xc1\xc1", good.raw_payloads[0]]
    batch = Batch.assemble("a", raws, {})

    parts = Sieve({"where": {"payload.n": 1}}).parts(OpenedBatch(batch))
    others = Sieve({"where": {"payload.n": {"exists": False}}}).parts(OpenedBatch(batch))

    assert [part.raw_payloads for part in parts] == [[raws[0]], [raws[2]]]
    assert [part.raw_payloads for part in others] == [[raws[1]]]
    assert Chain({"max_size": 2})(batch.messages()[1]) is not None, "its size is that of its bytes"


AT_THE_LIMIT = [
    [{"max_size": 1}] * 16,
    [{"every": 2}] * 4,
    {"where": {f"payload.f{n}": 1 for n in range(64)}},
    {"where": {"payload.a.b.c.d.e.f.g.h": 1}},
    {"where": {"payload." + "x" * 247: 1}},
    {"where": {"payload.x": {"in": list(range(1000))}}},
    {"where": {"payload.x": "v" * 1024}},
    {"where": {"headers.h": b"v" * 1024}},
    {"max_size": 1 << 53}, {"every": 1 << 53}, {"every": 2.0}, {"min_period": 366 * 86_400}, {"min_period": 1e-6},
    {"headers_only": True}, {"min_period": 1, "by": "headers.h", "per": None}, [],
    # 16,384 bytes, packed as a list of one
    {"where": {"payload.x": {"in": ["v" * 1000] * 16 + ["v" * 307]}}},
]


@pytest.mark.parametrize("filters", AT_THE_LIMIT, ids=lambda one: repr(one)[:60])
def test_what_is_at_a_limit_is_taken(filters):
    check_filters(filters)


@pytest.mark.parametrize("filters, sentence", [
    ([{"max_size": 1}] * 17, "at most 16 filters"),
    ([{"every": 2}] * 5, "At most 4 filters are min_period or every"),
    ({"where": {f"payload.f{n}": 1 for n in range(65)}}, "at most 64"),
    ([{"where": {f"payload.f{n}": {"ge": 1, "lt": 2} for n in range(16)}}] * 3, "at most 64"),
    ({"where": {"payload.a.b.c.d.e.f.g.h.i": 1}}, "at most 8 are looked up"),
    ({"where": {"payload." + "x" * 248: 1}}, "1 to 255 bytes"),
    ({"where": {"payload.x": {"in": list(range(1001))}}}, "1 to 1000 values"),
    ({"where": {"payload.x": {"in": []}}}, "1 to 1000 values"),
    ({"where": {"payload.x": "v" * 1025}}, "at most 1024 bytes"),
    ({"where": {"payload.x": {"in": ["v" * 1000] * 16 + ["v" * 308]}}}, "at most 16384 bytes"),
    ({"where": {"payload.x": math.nan}}, "no number to compare with"),
    ({"where": {"payload.x": {"ge": math.inf}}}, "no number to compare with"),
    ({"where": {"payload.x": {"ge": True}}}, "a bound is a number"),
    ({"where": {"payload.x": {"lt": None}}}, "a bound is a number"),
    ({"where": {"payload.x": [1]}}, "payload.x.NAME"),
    ({"where": {"payload.x": {"in": "abc"}}}, "a list of 1 to 1000"),
    ({"where": {"payload.x": {"in": [[1]]}}}, "not list"),
    ({"where": {"payload.x": {"regex": ".*"}}}, "eq, ne, lt, le, gt, ge, in, not_in, exists"),
    ({"where": {"payload.x": {"exists": 1}}}, "true or false"),
    ({"where": {"payload.x": {}}}, "at least one condition"),
    ({"where": {}}, "where is a map"),
    ({"where": "payload.x = 1"}, "where is a map"),
    ({"where": {"payloads.x": 1}}, "There is no field 'payloads.x'"),
    ({"where": {"payload.": 1}}, "There is no field"),
    ({"where": {"headers": 1}}, "There is no field"),
    ({"where": {1: 1}}, "A field is text"),
    ({"max_size": 0}, "max_size is a number from 1"),
    ({"max_size": "1"}, "max_size is a number"),
    ({"max_size": 1, "every": 2}, "A filter is a map with one of max_size, min_period, every, where, headers_only"),
    ({"max_size": 1, "per": "key"}, "Unknown option 'per'"),
    ({"max_sise": 1}, "A filter is a map with one of"),
    ({}, "A filter is a map with one of"),
    ([3], "A filter is a map with one of"),
    ("max_size", "a map or a list of maps"),
    (0, "a map or a list of maps"),
    ({"min_period": 0}, "min_period is a number from"),
    ({"min_period": math.nan}, "min_period is a number from"),
    ({"min_period": 366 * 86_400 + 1}, "min_period is a number from"),
    ({"min_period": 1, "by": "now"}, "by is 'time'"),
    ({"min_period": 1, "by": ["payload.x"]}, "by is 'time'"),
    ({"min_period": 1, "by": "key"}, "by is 'time'"),
    ({"min_period": 1, "per": "message"}, "per is 'topic', 'key'"),
    ({"min_period": 1, "per": ["key"]}, "per is 'topic', 'key'"),
    ({"every": 0}, "every is a number from 1"),
    ({"every": 2.5}, "every is a number from 1"),
    ({"headers_only": False}, "headers_only is true, or left out"),
    ({"headers_only": 1}, "headers_only is true, or left out"),
    ({"max_size": object()}, "plain maps"),
    ({"where": {"payload.x": 1 << 70}}, "plain maps"),
])
def test_what_is_wrong_or_beyond_a_limit_is_refused_with_what_would_be_right(filters, sentence):
    with pytest.raises(InvalidOption) as caught:
        check_filters(filters)

    assert sentence in str(caught.value)


def test_a_list_that_holds_itself_is_refused():
    endless: list = []
    endless.append(endless)

    with pytest.raises(InvalidOption):
        check_filters({"where": {"payload.x": endless}})
