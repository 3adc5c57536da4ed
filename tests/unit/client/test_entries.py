"""How what many callers publish is packed into one request, and each caller's place in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstreampub.client.entries import Limits, join, several, single
from zstreampub.errors import BatchTooLarge, InvalidPayload, InvalidTopic, MessageTooLarge
from zstreampub.message import Batch

LIMITS = Limits()


def parsed(batches):
    return [Batch.parse(packed) for packed in batches]


def test_neighbours_with_the_same_topic_share_a_batch():
    entries = [single("a", 1), single("a", 2), single("b", 3), single("a", 4)]

    batches = parsed(join(entries, LIMITS))

    assert [(batch.topic, batch.payloads) for batch in batches] == [("a", [1, 2]), ("b", [3]), ("a", [4])]
    assert [entry.place for entry in entries] == [(0, 0, 0, 1), (0, 1, 0, 2), (1, 0, 1, 1), (2, 0, 2, 1)]


def test_metadata_stays_with_its_message_when_others_have_none():
    entries = [single("a", 1), single("a", 2, key="k", headers={"h": 1}), several("a", [3, 4], ids=[None, b"i"])]

    [batch] = parsed(join(entries, LIMITS))

    assert [(m.payload, m.key, m.id, m.headers) for m in batch.messages()] == [
        (1, None, None, None), (2, "k", None, {"h": 1}), (3, None, None, None), (4, None, b"i", None)]


def test_a_batch_never_has_more_messages_than_the_server_takes():
    limits = Limits({"max_batch_messages": 3})
    entries = [several("a", range(2)), several("a", range(2)), several("a", range(7))]

    batches = parsed(join(entries, limits))

    assert [batch.payloads for batch in batches] == [[0, 1], [0, 1], [0, 1, 2], [3, 4, 5], [6]]
    assert entries[2].place == (2, 0, 4, 1)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(-9, 9), min_size=1, max_size=6)), min_size=1,
                max_size=20), st.integers(1, 5))
def test_every_entry_finds_its_messages_at_its_place(published, most):
    entries = [several(topic, payloads) for topic, payloads in published]

    batches = parsed(join(entries, Limits({"max_batch_messages": most})))

    log, firsts = [], []
    for batch in batches:
        assert batch.count <= most
        firsts.append(len(log))
        log += [(batch.topic, payload) for payload in batch.payloads]
    assert log == [(topic, payload) for topic, payloads in published for payload in payloads]
    for entry, (topic, payloads) in zip(entries, published):
        first_batch, start, last_batch, stop = entry.place
        found = log[firsts[first_batch] + start:firsts[last_batch] + stop]
        assert found == [(topic, payload) for payload in payloads]


def test_headers_that_the_caller_changes_later_are_sent_as_they_were():
    headers: dict = {"h": 1}
    entry = single("a", 1, headers=headers)
    headers["h"] = object()

    [batch] = parsed(join([entry], LIMITS))

    assert batch.metadata == {"headers": [{"h": 1}]}


@pytest.mark.parametrize("arguments", [
    dict(payload={1: 2}), dict(payload=object()), dict(payload=1, key=""), dict(payload=1, key="k" * 256),
    dict(payload=1, id=7), dict(payload=1, headers={1: 2}), dict(payload=1, headers="no map"),
])
def test_what_cannot_be_carried_is_refused_before_it_is_packed_with_others(arguments):
    with pytest.raises(InvalidPayload):
        single("a", **arguments)


@pytest.mark.parametrize("arguments", [dict(payloads=[]), dict(payloads=[1, 2], keys=["k"]),
                                       dict(payloads=[1, {2: 3}]), dict(payloads=[1], headers=[1])])
def test_a_list_that_cannot_be_carried_is_refused(arguments):
    with pytest.raises(InvalidPayload):
        several("a", **arguments)


@pytest.mark.parametrize("topic", ["", "a..b", "a b", "a.*", 7, None])
def test_a_wrong_topic_is_refused(topic):
    with pytest.raises(InvalidTopic):
        single(topic, 1)
    with pytest.raises(InvalidTopic):
        several(topic, [1])


def test_the_limits_are_those_that_the_server_told():
    limits = Limits({"max_message_bytes": 10, "max_batch_bytes": 100_000, "max_batch_messages": "nonsense"})

    limits.check(single("a", b"12345678"))
    with pytest.raises(MessageTooLarge):
        limits.check(single("a", b"123456789"))
    with pytest.raises(BatchTooLarge):
        limits.check(several("a", [b"1"] * 30_000))
    assert limits.max_batch_messages == Limits().max_batch_messages
