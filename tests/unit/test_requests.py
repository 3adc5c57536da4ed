"""The arguments of a call: what each is turned into, and that nothing wrong is passed over."""

import time

import pytest

from zstreampub.broker import Broker
from zstreampub.errors import InvalidBatch, InvalidOption, MalformedRequest, RequestError
from zstreampub.message import Batch
from zstreampub.requests import MAX_BATCHES, parse_publishing, parse_subscribe


@pytest.fixture(scope="module")
def broker():
    with Broker.open("memory:") as broker:
        yield broker


def parsed(*call):
    """Return the Append of a call."""
    return parse_publishing(*call).append


def test_publish_becomes_a_batch_of_one(broker):
    append = parsed("publish", broker, ["a", 1, {"key": "k", "id": b"i", "headers": {"h": 1}}])

    message, = append.batches[0].messages()
    assert (message.payload, message.key, message.id, message.headers) == (1, "k", b"i", {"h": 1})


def test_options_that_are_nil_are_not_set(broker):
    append = parsed("publish", broker, ["a", 1, {"key": None, "producer": None, "sequence": None, "deadline": None}])

    assert (append.producer, append.sequence, append.deadline, append.batches[0].metadata) == (None, None, None, {})


def test_one_map_of_headers_is_for_all_messages(broker):
    append = parsed("publish_many", broker, ["a", [1, 2], {"headers": {"h": 1}}])

    assert append.batches[0].metadata == {"headers": [{"h": 1}, {"h": 1}]}


def test_the_results_say_the_offsets(broker):
    many = parse_publishing("publish_many", broker, ["a", [1, 2]])
    packed = parse_publishing("append", broker, [[Batch.of("a", [1]).packed, Batch.of("b", [1]).packed]])

    first, next = broker.submit_and_wait(many)
    assert next == first + 2
    assert broker.submit_and_wait(packed) == [first + 2, first + 3]


@pytest.mark.parametrize("options", [
    {"producer": "p"}, {"sequence": 1}, {"producer": "", "sequence": 1}, {"producer": "x" * 65, "sequence": 1},
    {"producer": 5, "sequence": 1}, {"producer": "p", "sequence": -1}, {"producer": "p", "sequence": 1 << 63},
    {"producer": "p", "sequence": 1.5}, {"producer": "p", "sequence": True}, {"deadline": "now"}, {"deadline": -1},
    {"deadline": float("nan")}, {"deadline": float("inf")}, {"deadline": True}, {"unknown": 1}, {b"key": 1},
    {"keys": [1]}, 5, "text", [1]], ids=str)
def test_options_that_are_wrong_are_refused(broker, options):
    with pytest.raises(RequestError):
        parse_publishing("publish", broker, ["a", 1, options])


def test_a_producer_is_text_or_bytes_and_its_sequence_may_be_a_whole_float(broker):
    text = parsed("publish", broker, ["a", 1, {"producer": "p" * 64, "sequence": 5.0}])
    raw = parsed("publish", broker, ["a", 1, {"producer": b"p" * 64, "sequence": (1 << 63) - 1}])

    assert (text.producer, text.sequence) == (raw.producer, 5)
    assert type(text.sequence) is int


def test_a_deadline_by_the_calendar_becomes_one_by_the_steady_clock(broker):
    append = parsed("publish", broker, ["a", 1, {"deadline": time.time() + 100}])

    assert 90 < append.deadline - time.monotonic() <= 100


@pytest.mark.parametrize("batches", [None, [], "text", b"bytes", {}, [None], [b""], [b"x" * 50], ["text"],
                                     [Batch.of("a", [1]).packed] * (MAX_BATCHES + 1)],
                         ids=lambda value: repr(value)[:12])
def test_batches_that_are_none_are_refused(broker, batches):
    with pytest.raises(InvalidBatch):
        parse_publishing("append", broker, [batches])


@pytest.mark.parametrize(("name", "args"), [
    ("publish", []), ("publish", ["a"]), ("publish", ["a", 1, {}, 2]), ("publish", "ab"), ("publish", None),
    ("append", []), ("append", [[], {}, 1])])
def test_a_wrong_number_of_arguments_is_refused(broker, name, args):
    with pytest.raises(MalformedRequest):
        parse_publishing(name, broker, args)


def test_subscribe_needs_nothing():
    assert parse_subscribe() == ("map", {"patterns": None})
    assert parse_subscribe("a", None) == ("map", {"patterns": "a"})
    assert parse_subscribe("a", {"start": None, "format": "batch"}) == ("batch", {"patterns": "a"})


@pytest.mark.parametrize("options", [{"format": "json"}, {"format": []}, {"name": 5}, {"name": "x" * 256},
                                     {"startt": 1}, 5, []], ids=str)
def test_subscribe_options_that_are_wrong_are_refused(options):
    with pytest.raises(InvalidOption):
        parse_subscribe("a", options)
