"""A subscription as an embedded reader uses it."""

import gevent
import pytest
from gevent.event import Event

from tests.hand_store import Stage, let_run
from zstreampub.broker import Broker
from zstreampub.errors import RequestTimeout, StoreCorrupt, Unsubscribed
from zstreampub.message import Batch, Message
from zstreampub.store import Append, Gap
from zstreampub.topics import PatternSet


@pytest.fixture(autouse=True)
def deadline():
    with gevent.Timeout(30):
        yield


@pytest.fixture
def broker():
    with Broker.open("memory:") as broker:
        yield broker


def test_iterating_gives_messages_from_history_and_then_new_ones(broker):
    broker.publish_many("a", [0, 1])
    broker.publish("b", "not mine")
    with broker.subscribe("a", start="earliest") as subscription:
        got = [next(subscription), next(subscription)]
        broker.publish("a", 2)
        got.append(next(subscription))

    assert all(isinstance(message, Message) for message in got)
    assert [(message.offset, message.payload) for message in got] == [(0, 0), (1, 1), (3, 2)]


def test_iterating_over_batches_gives_them_as_they_were_appended(broker):
    broker.publish_many("a", [0, 1])
    broker.publish_many("a", [2, 3, 4])

    with broker.subscribe("a", start=1, until=4) as subscription:
        assert [(batch.first, batch.next) for batch in subscription.batches()] == [(1, 2), (2, 4)]
    assert not broker.subscriptions


def test_the_position_of_an_iteration_is_the_message_that_comes_next(broker):
    broker.publish_many("a", [0, 1, 2])
    broker.publish("a", 3)
    positions = []
    with broker.subscribe("a", start="earliest") as subscription:
        for message in subscription:
            positions.append((message.offset, subscription.position))
            if message.offset == 3:
                break

    assert positions == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_who_closes_in_the_middle_of_a_batch_resumes_there(broker):
    broker.publish_many("a", [0, 1, 2])
    subscription = broker.subscribe("a", start="earliest")
    next(subscription)

    subscription.close()

    assert subscription.position == 1
    assert [message.payload for message in broker.subscribe("a", start=1, until="end")] == [1, 2]


def test_waiting_ends_after_the_time_given(broker):
    with broker.subscribe("a") as subscription, pytest.raises(RequestTimeout):
        subscription.get(timeout_s=0.001)


def test_closing_ends_the_iteration_of_another_greenlet(broker):
    subscription = broker.subscribe("a")
    reader = gevent.spawn(list, subscription)
    let_run()

    subscription.close()

    assert reader.get(timeout=10) == []
    assert subscription.state == "ended"


def test_an_error_ends_the_iteration_after_what_was_read(broker):
    broker.publish_many("a", [0, 1])
    subscription = broker.subscribe("a", start="earliest")
    got = [next(subscription)]
    broker.unsubscribe(subscription.id)

    with pytest.raises(Unsubscribed) as caught:
        while True:
            got.append(next(subscription))

    assert [message.payload for message in got] == [0, 1]
    assert caught.value.resume == 2, "what was read is not to be read again"


def test_a_gap_comes_as_one_item_of_the_iteration(broker, monkeypatch):
    monkeypatch.setattr("zstreampub.fanout._TAIL_BYTES", 0)
    for payload in range(3):
        broker.publish("a", payload)
    broker.store.trim(PatternSet(["a"]), 2)

    first, second = broker.subscribe("a", start=0, until="end")

    assert first == Gap(0, 2, 2, "retention")
    assert second.payload == 2


def test_on_ready_is_called_when_there_is_something_to_take(broker):
    subscription, called = broker.subscribe("a"), Event()
    subscription.on_ready = called.set
    assert subscription.take() is None

    broker.publish("a", 1)

    assert called.wait(10)
    assert subscription.take().count == 1


def test_a_log_that_cannot_be_read_ends_the_subscription_with_that_error(monkeypatch):
    stage = Stage()
    stage.publish(("a", [1], None))
    stage.store.settle()
    monkeypatch.setattr("zstreampub.broker.Broker.tail_from", lambda *_: None)

    def read(*_):
        raise StoreCorrupt("a bad page")

    monkeypatch.setattr(stage.store, "read", read)

    subscription = stage.broker.subscribe("a", start=0)

    with pytest.raises(StoreCorrupt) as caught:
        subscription.get(10)
    assert caught.value.resume == 0


def test_a_batch_that_is_damaged_so_that_it_cannot_be_opened_ends_the_subscription_with_that_error(monkeypatch):
    stage = Stage()
    batch = Batch.of("a", ["x", "yy"], expires=[1 << 52, None])
    append = Append([batch])
    append.reply = stage.replies.append
    stage.broker.append(append)
    stage.store.settle()
    monkeypatch.setattr("zstreampub.broker.Broker.tail_from", lambda *_: None)
    batch.packed = batch.packed[:4] + b"\xff" + batch.packed[5:]       # of the number of messages

    subscription = stage.broker.subscribe("a", start=0)
    let_run()
    stage.store.let_read()

    with pytest.raises(StoreCorrupt):
        subscription.get(10)


def test_a_read_that_comes_back_after_the_end_is_ignored(monkeypatch):
    monkeypatch.setattr("zstreampub.broker.Broker.tail_from", lambda *_: None)
    stage = Stage()
    stage.publish(("a", [1], None))
    stage.store.settle()
    reader = stage.subscribe("a", start=0)
    assert stage.store.reads == 1

    reader.subscription.close()
    stage.store.settle()

    assert not reader.take()
    assert not stage.broker.subscriptions


def test_a_message_that_does_not_fit_waits_for_room_and_is_not_lost(monkeypatch):
    monkeypatch.setattr("zstreampub.fanout._TAIL_BYTES", 0)
    stage = Stage()
    stage.publish(("a", [bytes(10)], None), ("a", [bytes(900)], None), ("a", [bytes(10)], None))
    stage.store.settle()
    reader = stage.subscribe("a", start=0, max_bytes=200)

    stage.settle()

    assert [offset for offset, _, _ in reader.messages] == [0, 1, 2]
    stage.close()


def test_a_reader_that_is_ahead_of_the_delivery_gets_only_the_rest_of_a_batch(monkeypatch):
    monkeypatch.setattr("zstreampub.fanout._TAIL_BYTES", 0)
    stage = Stage()
    stage.publish(("a", [0], None))
    stage.store.settle()
    stage.publish(("a", [1, 2, 3, 4, 5], None))
    stage.store.commit()
    reader = stage.subscribe("a", start=0, max_messages=3)
    stage.store.let_read()
    assert (reader.subscription.live, reader.subscription.cursor) == (True, 3)
    reader.take_all()

    stage.store.tell()
    stage.settle()

    assert [offset for offset, _, _ in reader.items] == [0, 1, 2, 3, 4, 5]
    stage.close()


def test_a_gap_that_reaches_behind_its_chunk_is_told_once(monkeypatch):
    monkeypatch.setattr("zstreampub.fanout._TAIL_BYTES", 0)
    stage = Stage()
    for topic in "bbbba":
        stage.publish((topic, [1], None))
    stage.store.settle()
    reader = stage.subscribe(["a", "b"], start=0, max_messages=1)
    stage.store.trim(PatternSet(["a"]), 5)

    stage.settle()

    assert reader.gaps == [Gap(0, 5, 1, "retention")]
    assert [offset for offset, _, _ in reader.messages] == [0, 1, 2, 3]
    stage.close()


def test_the_description_says_how_far_behind_a_subscription_is():
    stage = Stage()
    reader = stage.subscribe("a", max_messages=2, name="slow")
    stage.publish(("a", list(range(5)), None))
    stage.store.settle()

    described = reader.subscription.describe()

    facts = [described[name] for name in ("name", "state", "position", "lag", "queued_messages")]
    assert facts == ["slow", "replaying", 0, 5, 2]
    stage.close()
