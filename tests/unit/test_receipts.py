"""Publishes that wait until somebody has the message, or has acknowledged it."""

import gevent
import pytest

from zstreampub.broker import Broker
from zstreampub.errors import InvalidOption, NextMismatch, UnknownConsumer
from zstreampub.settings import Settings


@pytest.fixture
def broker():
    with Broker.open("memory:", Settings(drain_timeout_s=0.2)) as one:
        yield one


def asked(broker, *args, **options):
    """Publish in a greenlet; return it."""
    options.setdefault("wait_timeout_s", 20)
    return gevent.spawn(broker.publish, *args, **options)


def test_a_message_is_delivered_when_a_subscription_has_taken_it(broker):
    subscription = broker.subscribe("a")
    answer = asked(broker, "a", 1, wait="delivered")
    gevent.idle()

    assert not answer.ready()
    assert subscription.get(5).payloads == [1]
    assert answer.get(timeout=5) == {"offset": 0, "wait": "delivered", "by": [subscription.id], "missing": [],
                                     "complete": True}


def test_so_many_subscriptions_must_have_it_as_were_asked_for(broker):
    first, second = broker.subscribe("a"), broker.subscribe(">")
    answer = asked(broker, "a", 1, wait="delivered", wait_count=2)
    first.get(5)
    gevent.idle()

    assert not answer.ready()
    second.get(5)
    assert answer.get(timeout=5)["by"] == [first.id, second.id]


def test_who_reads_it_from_the_log_has_it_too(broker):
    answer = asked(broker, "a", 1, wait="delivered")
    gevent.idle()
    late = broker.subscribe("a", start="earliest")
    late.get(5)

    assert answer.get(timeout=5)["by"] == [late.id]


def test_a_member_of_a_consumer_has_it_too(broker):
    member = broker.subscribe("a", consumer="c")
    answer = asked(broker, "a", 1, wait="delivered")
    next(member)

    assert answer.get(timeout=5)["by"] == [member.id]


def test_a_message_is_acked_when_a_consumer_has_acknowledged_it(broker):
    member = broker.subscribe("a", consumer="billing")
    broker.consumers.create("audit", ["a"])
    answer = asked(broker, "a", 1, wait="acked")
    delivery = next(member)
    gevent.idle()

    assert not answer.ready()
    delivery.ack()
    assert answer.get(timeout=5) == {"offset": 0, "wait": "acked", "by": ["billing"], "missing": ["audit"],
                                     "complete": True}


def test_the_consumers_that_must_acknowledge_can_be_named(broker):
    members = {name: broker.subscribe("a", consumer=name) for name in ("one", "two", "three")}
    answer = asked(broker, "a", 1, wait="acked", wait_for=["one", "three"])
    for name in ("two", "one"):
        next(members[name]).ack()
    gevent.idle()

    assert not answer.ready()
    next(members["three"]).ack()
    assert answer.get(timeout=5)["by"] == ["two", "one", "three"]


def test_time_that_is_over_is_an_answer_and_says_who_is_missing(broker):
    broker.subscribe("a", consumer="slow")

    answer = broker.publish("a", 1, wait="acked", wait_timeout_s=0.05)

    assert answer == {"offset": 0, "wait": "acked", "by": [], "missing": ["slow"], "complete": False}
    assert broker.get(0).payload == 1
    assert not broker.receipts.watched and not broker.consumers._watched


def test_no_time_at_all_is_an_answer_at_once(broker):
    assert broker.publish("a", 1, wait="delivered", wait_timeout_s=0)["complete"] is False


def test_all_messages_of_a_list_must_be_acknowledged(broker):
    member = broker.subscribe("a", consumer="c")
    answer = gevent.spawn(broker.publish_many, "a", [1, 2, 3], wait="acked", wait_timeout_s=20)
    deliveries = [next(member) for _ in range(3)]
    for delivery in deliveries[:2]:
        delivery.ack()
    gevent.idle()

    assert not answer.ready()
    deliveries[2].ack()
    assert answer.get(timeout=5) == {"first": 0, "next": 3, "wait": "acked", "by": ["c"], "missing": [],
                                     "complete": True}


def test_a_message_that_is_taken_twice_does_not_stand_for_another(broker):
    member = broker.subscribe("a", consumer="c", max_in_flight=1)
    answer = gevent.spawn(broker.publish_many, "a", [1, 2], wait="delivered", wait_timeout_s=20)
    next(member).nack(0)
    again = next(member)
    gevent.idle()

    assert (again.offset, again.delivery, answer.ready()) == (0, 2, False)
    again.ack()
    next(member)
    assert answer.get(timeout=5)["by"] == [member.id]


def test_a_rejected_message_is_not_acknowledged(broker):
    member = broker.subscribe("a", consumer="c")
    answer = asked(broker, "a", 1, wait="acked", wait_timeout_s=0.1)
    next(member).reject("no")

    assert answer.get(timeout=5)["complete"] is False


def test_a_repeated_id_is_answered_by_who_has_acknowledged_it_before(broker):
    member = broker.subscribe("a", consumer="c")
    first = asked(broker, "a", 1, id="x", wait="acked")
    next(member).ack()
    first.get(timeout=5)

    again = broker.publish("a", 1, id="x", wait="acked", wait_timeout_s=5)

    assert again == {"offset": 0, "wait": "acked", "by": ["c"], "missing": [], "complete": True}


def test_a_consumer_that_is_not_there_is_refused_and_nothing_is_stored(broker):
    with pytest.raises(UnknownConsumer, match="nothing was published"):
        broker.publish("a", 1, wait="acked", wait_for=["nobody"])
    broker.consumers.create("c", ["b"])
    with pytest.raises(InvalidOption, match="not given messages of 'a'"):
        broker.publish("a", 1, wait="acked", wait_for=["c"])
    assert broker.next == 0


def test_a_refused_message_is_refused_and_forgotten(broker):
    with pytest.raises(NextMismatch):
        broker.publish("a", 1, wait="delivered", expected_next=7)
    assert not broker.receipts.expected and not broker.receipts.watched


def test_a_broker_that_closes_answers_those_who_wait():
    broker = Broker.open("memory:")
    answer = asked(broker, "a", 1, wait="delivered")
    gevent.idle()
    broker.close()

    assert answer.get(timeout=5)["complete"] is False
