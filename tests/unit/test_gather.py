"""Single publishes that share a batch: their order, their answers, their errors."""

import gevent
import pytest

from zstreampub.broker import Broker
from zstreampub.errors import InvalidTopic, MessageTooLarge
from zstreampub.gather import Gatherer
from zstreampub.settings import Settings


class Call:
    def __init__(self):
        self.offset = self.error = None

    def succeed(self, offset):
        self.offset = offset

    def fail(self, error):
        self.error = error


@pytest.fixture
def broker():
    with Broker.open("memory:", Settings(max_message_bytes=1000)) as broker:
        yield broker


def stored(broker):
    return list(broker.subscribe(start="earliest", until="end").batches())


def add_all(gatherer, messages):
    calls = []
    for topic, payload in messages:
        calls.append(Call())
        gatherer.add(calls[-1], topic, payload)
    gevent.sleep(0.01)
    return calls


def test_neighbours_of_one_topic_share_a_batch_and_each_gets_its_offset(broker):
    calls = add_all(Gatherer(broker), [("a", 1), ("a", 2), ("a", 3)])

    assert [call.offset for call in calls] == [0, 1, 2]
    assert [batch.payloads for batch in stored(broker)] == [[1, 2, 3]]


def test_another_topic_between_them_keeps_the_order(broker):
    calls = add_all(Gatherer(broker), [("a", 1), ("b", 2), ("a", 3)])

    assert [call.offset for call in calls] == [0, 1, 2]
    assert [(batch.topic, batch.payloads) for batch in stored(broker)] == [("a", [1]), ("b", [2]), ("a", [3])]


def test_a_message_that_is_refused_is_the_error_of_its_caller_only(broker):
    gatherer = Gatherer(broker)
    call = Call()
    gatherer.add(call, "a", 1)

    with pytest.raises(MessageTooLarge):
        gatherer.add(Call(), "a", b"x" * 1000)
    with pytest.raises(InvalidTopic):
        gatherer.add(Call(), "a..b", 2)
    gevent.sleep(0.01)

    assert call.offset == 0
    assert [batch.payloads for batch in stored(broker)] == [[1]]


def test_everybody_in_a_batch_that_the_broker_refuses_is_told(broker):
    broker.drain()

    calls = add_all(Gatherer(broker), [("a", 1), ("a", 2)])

    assert [type(call.error).__name__ for call in calls] == ["ServerDraining"] * 2


def test_flush_publishes_at_once_what_is_there(broker):
    gatherer = Gatherer(broker)
    call = Call()
    gatherer.add(call, "a", 1)

    gatherer.flush()
    first, _ = broker.publish_many("a", [2])

    assert (call.offset, first) == (0, 1)
