"""Rates: at most one message in a period, every so many-th, and what they remember."""

import gc
from datetime import datetime, timedelta, timezone

import msgpack
import pytest

from zstreampub.filters import rates
from zstreampub.filters.chain import Chain
from zstreampub.filters.opened import OpenedBatch
from zstreampub.filters.sieve import Sieve
from zstreampub.filters.stamps import stamp_us, stamps_us
from zstreampub.message import Batch, Message


def passed(filters, messages):
    chain = Chain(filters)
    return [message.payload for message in messages if chain(message) is not None]


def stamped(*stamps, topic="a", key=None):
    return [Message(topic, at, float(at), {"at": stamp}, key) for at, stamp in enumerate(stamps)]


@pytest.mark.parametrize("value, us", [
    (0, 0), (1.5, 1_500_000), (0.1 + 0.2, 300_000), (-1, -1_000_000), (1_700_000_000, 1_700_000_000_000_000),
    ("1970-01-01T00:00:01Z", 1_000_000), ("1970-01-01 00:00:01", 1_000_000), ("1970-01-01T00:00:01.25z", 1_250_000),
    ("1970-01-01T00:00:01,000001999", 1_000_001), ("1970-01-01T01:00:01+01:00", 1_000_000),
    ("1969-12-31T19:00:01-0500", 1_000_000), ("1970-01-01T05:30+05:30", 0), ("1970-01-01T00:00:00-00", 0),
    (datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone(timedelta(hours=-1))), 3_601_000_000),
    (None, None), (True, None), (float("nan"), None), (float("inf"), None), (1e300, None), (10 ** 400, None),
    ("", None), ("yesterday", None), ("1970-13-01T00:00:00", None), ("1970-01-01", None),
    (b"1970-01-01T00:00:01Z", None),
    ("1970-01-01T00:00:00+99:99:99", None), ("1" * 100, None), ([1], None),
])
def test_a_time_is_seconds_or_iso_8601_text(value, us):
    assert stamp_us(value) == us


@pytest.mark.parametrize("values", [
    [1, 2.5], [1, float("nan"), 2], [float("nan"), 1], [1, float("inf")], [1, 1e300], [-1e13, 1], [1, True],
    [1, "x", None],
])
def test_the_times_of_a_batch_are_those_of_its_messages(values):
    assert stamps_us(values) == [stamp_us(value) for value in values]


def test_at_most_one_reading_in_a_tenth_of_a_second_by_its_own_timestamp():
    """The example of the ZeroMQ wiki: a queue that buffers readings and keeps one in 0.1 s."""
    begin = datetime(2019, 3, 1, 12, 0, 0, 123_000)
    readings = [{"timestamp": (begin + timedelta(milliseconds=20 * at)).isoformat(), "value": at} for at in range(50)]
    batch = Batch.of("sensor", readings)

    chained = [one for one in map(Chain({"min_period": 0.1, "by": "payload.timestamp"}), batch.messages()) if one]
    sieved = list(Sieve({"min_period": 0.1, "by": "payload.timestamp"}).parts(OpenedBatch(batch)))
    plain = [one for one in map(Chain({"min_period": 0.1, "by": "payload.timestamp"}), readings) if one]

    assert [one.payload["value"] for one in chained] == list(range(0, 50, 5))
    assert [part.payloads[0]["value"] for part in sieved] == list(range(0, 50, 5))
    assert [one["value"] for one in plain] == list(range(0, 50, 5))


def test_a_time_of_its_own_may_be_a_timestamp_of_msgpack():
    times = [msgpack.Timestamp(100, ms * 1_000_000) for ms in (0, 50, 100, 150)]
    batch = Batch.of("sensor", [{"at": time} for time in times])

    passed = list(Sieve({"min_period": 0.1, "by": "payload.at"}).parts(OpenedBatch(batch)))

    assert [part.payloads[0]["at"] for part in passed] == [times[0], times[2]]
    assert stamp_us(msgpack.Timestamp(1 << 62)) is None


def test_a_period_of_a_tenth_passes_every_tenth_however_floats_add_up():
    messages = stamped(*(at * 0.1 for at in range(100)))

    assert len(passed({"min_period": 0.1, "by": "payload.at"}, messages)) == 100


def test_the_period_counts_from_what_passed_and_not_from_what_was_left_out():
    messages = stamped(0, 0.6, 0.9, 1.2, 1.9, 2.2)

    assert [one["at"] for one in passed({"min_period": 1, "by": "payload.at"}, messages)] == [0, 1.2, 2.2]


def test_a_time_that_goes_back_by_a_period_starts_anew_and_by_less_is_left_out():
    messages = stamped(100, 99.5, 50, 50.5, 51)

    assert [one["at"] for one in passed({"min_period": 1, "by": "payload.at"}, messages)] == [100, 50, 51]


def test_a_message_without_a_time_that_can_be_read_passes():
    messages = [*stamped(0, "soon", 0.5), Message("a", 9, 1.0, "no map")]

    assert passed({"min_period": 1, "by": "payload.at"}, messages) == [{"at": 0}, {"at": "soon"}, "no map"]


def test_by_time_is_by_when_the_message_was_stored():
    messages = [Message("a", at, at / 4, at) for at in range(10)]

    assert passed({"min_period": 1}, messages) == [0, 4, 8]
    assert passed([{"min_period": 1, "by": "headers.at"}],
                  [Message("a", at, 0.0, at, headers={"at": at / 2}) for at in range(6)]) == [0, 2, 4]


def test_by_arrival_is_by_when_it_comes(monkeypatch):
    now = [0]
    chain = Chain({"min_period": 1, "by": "arrival"})
    monkeypatch.setattr(chain._parsed.rates[0], "now_us", lambda: now[0])
    got = []

    for now[0] in range(0, 3_000_000, 400_000):
        got += [] if chain(b"x") is None else [now[0]]

    assert got == [0, 1_200_000, 2_400_000]


@pytest.mark.parametrize("per, payloads", [(None, [0]), ("topic", [0, 2]), ("key", [0, 1, 2, 4])])
def test_a_period_is_that_of_all_of_a_topic_or_of_a_key(per, payloads):
    messages = [Message(topic, at, 1.0, at, key) for at, (topic, key) in enumerate(
        [("a", "k"), ("a", "l"), ("b", "k"), ("a", "k"), ("a", None), ("a", None)])]

    assert passed({"min_period": 1, "per": per}, messages) == payloads
    assert passed({"min_period": 1, "by": "headers.x", "per": per},
                  [Message(one.topic, 0, 0.0, one.payload, one.key, headers={"x": 5}) for one in messages]) == payloads


@pytest.mark.parametrize("per, payloads", [(None, [0, 2, 4]), ("topic", [0, 2, 3, 5]), ("key", [0, 1, 2, 4])])
def test_every_passes_the_first_of_so_many(per, payloads):
    messages = [Message(topic, at, 1.0, at, key) for at, (topic, key) in enumerate(
        [("a", "k"), ("a", "l"), ("b", "k"), ("a", "k"), ("a", None), ("a", None)])]

    assert passed({"every": 2, "per": per}, messages) == payloads


def test_every_goes_on_counting_from_batch_to_batch():
    sieve = Sieve({"every": 4})
    batches = [Batch.of("a", [start + at for at in range(3)]) for start in range(0, 12, 3)]

    parts = [part for batch in batches for part in sieve.parts(OpenedBatch(batch))]

    assert [payload for part in parts for payload in part.payloads] == [0, 4, 8]


@pytest.mark.parametrize("word", [{"min_period": 1}, {"every": 2}])
def test_beyond_so_many_keys_the_one_used_longest_ago_is_forgotten_and_passes_again(word, monkeypatch):
    monkeypatch.setattr(rates, "MAX_GROUPS", 3)
    chain = Chain({**word, "per": "key"})
    messages = [Message("a", at, 1.0, key, key) for at, key in enumerate("abc" "d" "d" "c" "a")]

    got = [message.payload for message in messages if chain(message)]

    assert got == [*"abcd", "a"]


def test_what_is_remembered_of_many_keys_stays_small():
    chain = Chain({"every": 5, "per": "key"})

    for at in range(rates.MAX_GROUPS + 50):
        chain(Message("a", at, 1.0, None, str(at)))

    gc.collect()
    assert len(chain._parsed.rates[0].groups) == rates.MAX_GROUPS
