"""Publishing on terms, by our client and a stock one, at a real server that may be killed in between."""

import time

import gevent
import pytest
import zerorpc

from tests.processes import ServerProcess, client, messages, wait_until
from zstreampub import Client
from zstreampub.errors import DuplicateId, InvalidOption, NextMismatch


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.5) as one:
        yield one


@pytest.fixture
def ours(server):
    with Client(server.endpoint, heartbeat_s=0.5) as one:
        yield one


def test_a_repeated_id_is_stored_once_also_after_the_server_was_killed(tmp_path):
    with ServerProcess(tmp_path) as server, client(server) as stock:
        offset = stock.publish("orders", "first", {"id": "order-7"})
        assert stock.publish("orders", "again", {"id": "order-7"}) == offset
        assert stock.publish("other", "elsewhere", {"id": "order-7"}) != offset
        server.kill()
    with ServerProcess(tmp_path) as again, client(again) as stock, Client(again.endpoint) as ours:
        assert stock.publish("orders", "again", {"id": "order-7"}) == offset
        assert ours.publish("orders", "again", id="order-7") == offset
        assert ours.publish_many("orders", ["again"], ids=["order-7"]) == (offset, offset + 1)
        assert [message["payload"] for message in messages(
            stock.subscribe("orders", {"start": "earliest", "until": "end"}))] == ["first"]


def test_a_list_of_which_some_are_repeats_is_refused_whole(ours):
    ours.publish("a", 1, id="x")
    with pytest.raises(DuplicateId):
        ours.publish_many("a", [1, 2], ids=["x", "y"])
    assert ours.publish("a", 2, id="y") == 1


def test_content_can_be_its_own_id(server, ours):
    offset = ours.publish("a", {"n": 1}, unique="content")
    with client(server) as stock:
        assert stock.publish("a", {"n": 1}, {"unique": "content"}) == offset
    assert ours.publish("a", {"n": 2}, unique="content") == offset + 1
    assert ours.publish_many("a", [{"n": 1}, {"n": 2}], unique="content") == (offset, offset + 2)
    with pytest.raises(InvalidOption):
        ours.publish("a", 1, unique="content", id="x")


def test_only_one_of_those_who_expect_the_same_place_gets_it(server, ours):
    ours.publish("other", 0)
    assert ours.publish("a", "one", expected_next=0) == 1
    with pytest.raises(NextMismatch, match="is 2, not 0"):
        ours.publish("a", "two", expected_next=0)
    with client(server) as stock, pytest.raises(zerorpc.RemoteError) as refused:
        stock.publish("a", "two", {"expected_next": 1})
    assert refused.value.name == "NextMismatch"
    assert ours.publish("a", "two", expected_next=2) == 2


def test_a_delayed_message_comes_once_although_the_server_is_killed(tmp_path):
    with ServerProcess(tmp_path) as server, Client(server.endpoint, heartbeat_s=0.5) as ours:
        gone = ours.publish("a", "gone", delay_s=1)
        ours.publish("a", "later", delay_s=1)
        far = ours.publish("a", "far", at=time.time() + 1000)
        assert ours.cancel(gone) is True
        server.kill()
        with server.again() as again:
            subscription = ours.subscribe("a", start="earliest")
            assert subscription.get(timeout_s=20).payload == "later"
            assert ours.cancel(gone) is False
            assert [one["id"] for one in ours.scheduled()] == [far]
            with client(again) as stock:
                assert stock.cancel(far) is True
                assert stock.scheduled() == []


def test_who_comes_too_late_is_told_that_there_was_something(server, ours):
    ours.publish("a", "short", ttl_s=0.05)
    ours.publish("a", "long", ttl_s=1000)
    wait_until(lambda: ours.last("a").payload == "long", "the newest")
    gevent.sleep(0.1)
    gaps = []

    assert [one.payload for one in ours.subscribe("a", start="earliest", until="end", on_gap=gaps.append)] == ["long"]
    assert [(gap["first"], gap["next"], gap["why"]) for gap in gaps] == [(0, 1, "expired")]
    with client(server) as stock:
        items = list(stock.subscribe("a", {"start": "earliest", "until": "end"}))
        assert [item.get("why") for item in items if item.get("control") == "gap"] == ["expired"]
        assert "expires" in messages(items)[0]


def test_a_publish_can_wait_until_a_consumer_has_acknowledged_it(server, ours):
    with ours.consume("jobs", "workers", start="earliest") as mine:
        worker = gevent.spawn(mine.run, lambda job: gevent.sleep(0.05))
        answer = ours.publish("jobs", 1, wait="acked")
        with client(server) as stock:
            assert stock.publish("jobs", 2, {"wait": "acked", "wait_for": ["workers"]})["complete"] is True
        assert (answer["by"], answer["missing"], answer["complete"]) == (["workers"], [], True)
        worker.kill()
    assert ours.publish("jobs", 3, wait="acked", wait_timeout_s=0.1)["complete"] is False


def test_a_publish_can_wait_until_subscribers_have_it(server, ours):
    with ours.subscribe("a") as first:
        answer = ours.publish("a", 1, wait="delivered", wait_timeout_s=20)
        assert answer == {"offset": 0, "wait": "delivered", "by": [first.id], "missing": [], "complete": True}
        assert first.get(5).payload == 1


def test_a_publish_that_waits_outlives_the_server(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.3) as server, Client(server.endpoint, heartbeat_s=0.3) as ours:
        ours.create_consumer("c", "a")
        answer = gevent.spawn(ours.publish, "a", 1, wait="acked", wait_timeout_s=60)
        wait_until(lambda: ours.about()["next"] == 1, "the message")
        server.kill()
        with server.again():
            delivery = ours.fetch("c", 1, timeout_s=20)[0]
            delivery.ack().get()
            assert answer.get(timeout=30)["by"] == ["c"]
            assert ours.about()["next"] == 1


def test_a_hundred_publishes_that_wait_outlive_the_server_and_are_stored_once_each(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.3) as server, Client(server.endpoint, heartbeat_s=0.3) as ours:
        ours.create_consumer("c", "a")
        answers = [gevent.spawn(ours.publish, "a", number, wait="acked", wait_timeout_s=60) for number in range(100)]
        wait_until(lambda: ours.about()["next"] == 100, "the messages")
        server.kill()
        with server.again(), ours.consume(consumer="c") as mine:
            worker = gevent.spawn(mine.run, lambda job: None)
            gevent.joinall(answers, timeout=30)
            assert sorted(answer.get(timeout=0)["offset"] for answer in answers) == list(range(100))
            assert all(answer.value["complete"] for answer in answers)
            assert ours.about()["next"] == 100
            worker.kill()
