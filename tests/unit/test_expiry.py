"""Messages with a ttl: who comes too late is told that they were there."""

import pytest

from zstreampub import outlet as outlets
from zstreampub import publishing
from zstreampub import subscription as subscriptions
from zstreampub.broker import Broker
from zstreampub.expiry import shown
from zstreampub.message import Batch
from zstreampub.store import Append, Gap


class Calendar:
    """The clock of the broker, by hand."""

    def __init__(self):
        self.us = 1_700_000_000_000_000

    def __call__(self):
        return self.us

    def pass_s(self, seconds):
        self.us += int(seconds * 1e6)


@pytest.fixture
def calendar(monkeypatch):
    one = Calendar()
    for module in (outlets, subscriptions, publishing):
        monkeypatch.setattr(module, "now_us", one)
    return one


@pytest.fixture
def broker(calendar):
    with Broker.open("memory:") as one:
        yield one


def test_what_has_expired_in_a_queue_is_told_as_a_gap(broker, calendar):
    subscription = broker.subscribe("a")
    broker.publish("a", "short", ttl_s=10)
    broker.publish("a", "long", ttl_s=1000)
    calendar.pass_s(10)

    assert subscription.get(5) == Gap(0, 1, 1, "expired")
    assert subscription.get(5).payloads == ["long"]
    assert subscription.position == 2


def test_what_has_not_expired_comes_with_the_time_at_which_it_will(broker, calendar):
    subscription = broker.subscribe("a")
    broker.publish("a", "x", ttl_s=10)
    calendar.pass_s(9.5)

    message = next(subscription)
    assert message.payload == "x"
    assert message.expires == pytest.approx(calendar.us / 1e6 + 0.5)


def test_what_has_expired_in_the_log_is_one_gap(broker, calendar):
    for number in range(20):
        broker.publish("a", number, ttl_s=10)
    broker.publish("a", "new")
    calendar.pass_s(11)

    items = list(broker.subscribe("a", start="earliest", until="end"))
    assert items[0] == Gap(0, 20, 20, "expired")
    assert [item.payload for item in items[1:]] == ["new"]


def test_a_bounded_reader_of_expired_messages_ends(broker, calendar):
    broker.publish_many("a", [1, 2, 3], ttl_s=10)
    calendar.pass_s(11)

    assert list(broker.subscribe("a", start="earliest", until="end")) == [Gap(0, 3, 3, "expired")]


def test_the_newest_message_is_none_once_it_has_expired(broker, calendar):
    broker.publish("a", "old", key="k")
    broker.publish("a", "new", key="k", ttl_s=10)
    assert broker.last("a").payload == "new"
    calendar.pass_s(10)

    assert broker.last("a") is None
    assert broker.last("a", "k") is None
    assert broker.get(1).payload == "new"


def test_a_reader_stands_before_what_it_has_in_hand(broker, calendar):
    subscription = broker.subscribe("a")
    broker.publish_many("a", [1, 2], ttl_s=10)
    calendar.pass_s(10)
    batch = Batch.of("a", [1, 2, 3], expires=[5, None, 5])
    assert [part.count for part in shown(batch, 4)] == [3]
    assert [(type(part), part.first, part.count) for part in shown(batch, 5)] == [
        (Gap, 0, 1), (Batch, 1, 1), (Gap, 2, 1)]

    assert subscription.position == 0
    assert subscription.get(5) == Gap(0, 2, 2, "expired")
    assert subscription.position == 2


def test_a_batch_of_which_some_has_expired_comes_in_parts(broker, calendar):
    subscription = broker.subscribe("a")
    append = Append([Batch.of("a", [1, 2, 3], expires=[calendar.us - 1, None, calendar.us - 1])])
    broker.append_and_wait(append)

    assert subscription.get(5) == Gap(0, 1, 1, "expired")
    assert (subscription.position, subscription.ended) == (1, False)
    assert subscription.get(5).payloads == [2]
    assert subscription.get(5) == Gap(2, 3, 1, "expired")
    assert subscription.position == 3
