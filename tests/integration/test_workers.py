"""Workers: real processes that read the log of another, killed, stopped, overtaken and asked for what they have not."""

import asyncio
import os
import signal
from contextlib import ExitStack

import pytest
import zerorpc

from tests.processes import DEADLINE_S, ServerProcess, client, controls, messages, wait_until
from tests.worker_tools import Crowd, endpoint_of, is_there, workers_of
from zstreampub import aio
from zstreampub.client import Client, elsewhere, reader
from zstreampub.errors import NotWriter

SUBSCRIBERS = 16


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """However busy the machine is, a worker is not given up."""
    monkeypatch.setattr(reader, "_AWAY_S", DEADLINE_S)
    monkeypatch.setattr(elsewhere, "_ANSWER_S", DEADLINE_S)


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path, workers=2) as server:
        workers_of(server)
        yield server


def test_sixteen_subscribers_are_spread_over_the_workers_and_each_gets_everything_once_in_order(server):
    crowd = Crowd(server.endpoint, SUBSCRIBERS)

    crowd.publish(200)

    wait_until(lambda: [one["subscriptions"] for one in workers_of(server)] == [SUBSCRIBERS / 2] * 2, "equal shares")
    assert crowd.publisher.call("subscriptions") == []
    assert sorted(one["worker"] for one in crowd.publisher.subscriptions()) == [1] * 8 + [2] * 8
    crowd.finish()


def test_a_subscription_to_what_is_new_begins_where_the_writer_was_when_it_was_opened(server):
    with Client(server.endpoint) as one:
        for number in range(20):
            one.publish("a", number)

            subscription = one.subscribe("a")
            offset = one.publish("a", "next")

            assert next(subscription).offset == offset
            subscription.close()


def test_a_subscription_begins_at_an_offset_that_its_worker_has_not_seen_yet(server):
    with Client(server.endpoint) as one:
        for number in range(20):
            offset = one.publish("a", number)

            subscription = one.subscribe("a", start=offset)

            assert next(subscription).payload == number
            subscription.close()


def test_clients_go_on_without_loss_or_repetition_when_workers_are_killed(server):
    crowd = Crowd(server.endpoint, SUBSCRIBERS)
    for _ in range(3):
        crowd.publish(100)
        for worker in workers_of(server):
            os.kill(worker["pid"], signal.SIGKILL)
            crowd.publish(20)

    crowd.publish(100)

    crowd.finish()
    assert "ended with status -9" in server.log()


def test_a_worker_that_is_started_again_gets_its_share_back_and_nobody_misses_anything(server):
    crowd = Crowd(server.endpoint, SUBSCRIBERS)
    crowd.publish(20)
    os.kill(workers_of(server)[0]["pid"], signal.SIGKILL)
    wait_until(lambda: workers_of(server, 1), "its end to be seen")

    def shares():
        crowd.publish(1)
        return sorted(one["subscriptions"] for one in workers_of(server))

    wait_until(lambda: shares() == [SUBSCRIBERS / 2] * 2, "equal shares")
    crowd.publish(20)
    crowd.finish()


def test_clients_that_are_back_before_the_workers_go_to_them_when_they_serve(tmp_path):
    with ServerProcess(tmp_path) as alone:
        crowd = Crowd(alone.endpoint, SUBSCRIBERS)
        crowd.publish(20)
        assert len(crowd.publisher.call("subscriptions")) == SUBSCRIBERS
        alone._again["workers"] = 2
        alone.kill()
        with alone.again() as server:
            crowd.publish(20)

            wait_until(lambda: sorted(one["subscriptions"] for one in workers_of(server)) == [SUBSCRIBERS / 2] * 2,
                       "equal shares")
            assert crowd.publisher.call("subscriptions") == []
            crowd.publish(20)
            crowd.finish()


def test_subscribers_of_a_worker_that_hangs_go_on_at_the_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_AWAY_S", 0.3)
    with ServerProcess(tmp_path, workers=1, heartbeat_s=0.3) as server:
        worker, = workers_of(server, 1)
        crowd = Crowd(server.endpoint, 4, heartbeat_s=0.3)
        crowd.publish(20)

        os.kill(worker["pid"], signal.SIGSTOP)
        crowd.publish(20)

        crowd.finish()
        os.kill(worker["pid"], signal.SIGCONT)


def test_no_worker_outlives_a_writer_that_was_killed_and_clients_go_on_with_the_next(tmp_path):
    with ServerProcess(tmp_path, workers=2) as first:
        old = [worker["pid"] for worker in workers_of(first)]
        crowd = Crowd(first.endpoint, SUBSCRIBERS)
        crowd.publish(50)

        first.kill()
        wait_until(lambda: not any(map(is_there, old)), "the end of the workers")
        with first.again() as second:
            crowd.publish(50)
            new = workers_of(second)
            crowd.publish(50)
            crowd.finish()

    assert not {worker["pid"] for worker in new} & set(old)
    wait_until(lambda: not any(is_there(worker["pid"]) for worker in new), "the end of the workers")


def test_sigterm_drains_the_workers_too(server):
    workers = workers_of(server)
    with client(server) as publisher, client(endpoint_of(workers[0])) as stock:
        items = iter(stock.subscribe("a"))
        got = [next(items)]
        publisher.publish("a", "x")
        got.append(next(items))     # so it has granted credit for the end

        server.terminate()

        with pytest.raises(zerorpc.RemoteError, match="ServerDraining"):
            while True:
                got.append(next(items))
    assert [one.get("control") for one in got] == ["subscribed", None, "end"]
    assert server.wait() == 0
    assert not any(is_there(worker["pid"]) for worker in workers)
    assert "Traceback" not in server.log()


def test_ctrl_c_in_a_terminal_ends_all_processes_without_a_traceback(server):
    workers = workers_of(server)

    server.terminate(signal.SIGINT)

    assert server.wait() == 0
    assert not any(is_there(worker["pid"]) for worker in workers)
    assert "Traceback" not in server.log()


def test_a_stock_client_reads_at_a_worker_and_is_told_who_takes_what_changes_anything(server):
    worker = endpoint_of(workers_of(server)[0])
    with client(server) as writer, client(worker) as stock:
        writer.publish("a", "one")
        items = iter(stock.subscribe("a", {"start": "earliest"}))
        got = [next(items), next(items)]

        refused = []
        for name, args in (("publish", ("a", 1)), ("append", ([b""],)), ("ack", ("c", 0)), ("consumers", ()),
                           ("subscribe", ("a", {"consumer": "c"})), ("subscribe", ("a", {"policy": "block"}))):
            with pytest.raises(zerorpc.RemoteError) as error:
                list(stock(name, *args))
            refused.append((error.value.name, server.endpoint in error.value.msg))

        assert messages(got)[0]["payload"] == "one"
        assert refused == [("NotWriter", True)] * 6
        assert stock.about()["writer"] == [server.endpoint]
        assert [one["topic"] for one in stock.topics()] == ["a"]
        assert stock.get(0)["payload"] == stock.last("a")["payload"] == "one"
        items.close()       # else it is killed wherever garbage is collected, maybe in the thread of another client


def test_a_stock_client_that_says_it_is_movable_is_told_where_to_go(server):
    place = endpoint_of(workers_of(server)[0])
    with client(server) as writer:
        offset = writer.publish("a", "one") + 1
        items = iter(writer.subscribe("a", {"movable": True}))
        moved = next(items)
        with pytest.raises(zerorpc.RemoteError, match="Moved"):
            next(items)
        assert moved == {"control": "moved", "endpoints": {server.endpoint: place}, "offset": offset,
                         "epoch": writer.about()["epoch"]}

        with client(moved["endpoints"][server.endpoint]) as stock:
            items = iter(stock.subscribe("a", {"movable": True, "start": moved["offset"], "epoch": moved["epoch"]}))
            assert next(items)["offset"] == offset
            writer.publish("a", "two")
            assert next(items)["payload"] == "two"
            items.close()       # see above


def test_an_asyncio_client_reads_at_a_worker(server):
    async def read():
        async with aio.Client(server.endpoint) as one, one.subscribe("a", start="earliest", until=2) as subscription:
            workers = [found["worker"] for found in await one.subscriptions()]
            for payload in ("x", "y"):
                await one.publish("a", payload)
            return workers, [message.payload async for message in subscription]

    assert asyncio.run(read()) == ([1], ["x", "y"])


def test_a_table_shows_what_was_just_put(server):
    with Client(server.endpoint) as one:
        table = one.table("settings")
        for number in range(20):
            table["key"] = number
            assert table["key"] == number
        assert dict(one.table("settings")) == {"key": 19}


def test_filters_work_at_a_worker(server):
    with Client(server.endpoint) as one:
        subscription = one.subscribe("a", filters={"where": {"payload": {"ge": 5}}})
        one.publish_many("a", list(range(10)))

        assert [next(subscription).payload for _ in range(5)] == [5, 6, 7, 8, 9]
        assert one.subscriptions()[0]["filtered"] == 5


def test_a_log_that_grows_beyond_its_first_map_is_followed(server):
    with Client(server.endpoint) as one:
        subscription = one.subscribe("a")
        for number in range(60):
            one.publish("a", bytes([number]) * 1_000_000)

            assert next(subscription).payload == bytes([number]) * 1_000_000
        assert one.stats()["store"]["map_bytes"] > 1 << 25


def test_a_client_that_wants_to_stay_and_one_that_holds_publishers_are_served_by_the_writer(server):
    with Client(server.endpoint, workers=False) as homely, Client(server.endpoint) as other:
        here = homely.subscribe("a")
        holding = other.subscribe("a", policy="block")

        assert {one["id"] for one in other.call("subscriptions")} == {here.id, holding.id}


def test_unsubscribe_finds_a_subscription_at_a_worker(server):
    with Client(server.endpoint) as one:
        subscription = one.subscribe("a", reconnect=False)

        assert one.unsubscribe(subscription.id) is True
        assert one.unsubscribe("nobody") is False
        with pytest.raises(Exception, match="unsubscribe"):
            next(subscription)


def test_the_client_says_clearly_that_a_worker_takes_no_messages(server):
    with Client(endpoint_of(workers_of(server)[0])) as lost, pytest.raises(NotWriter, match=server.endpoint):
        lost.publish("a", 1)


def test_a_worker_that_was_overtaken_by_retention_tells_a_gap(tmp_path):
    with ServerProcess(tmp_path, workers=1, retention=[{"pattern": ">", "max_messages": 100}],
                       retention_interval_s=0.05) as server:
        worker, = workers_of(server, 1)
        with client(server) as publisher, client(endpoint_of(worker)) as stock:
            publisher.publish("a", 0)
            items = iter(stock.subscribe("a", {"start": "earliest"}))
            got = [next(items), next(items)]
            os.kill(worker["pid"], signal.SIGSTOP)
            for first in range(1, 2000, 10):
                publisher.publish_many("a", list(range(first, first + 10)))
            wait_until(lambda: publisher.stats()["first"] > 1000, "retention")

            os.kill(worker["pid"], signal.SIGCONT)
            while got[-1].get("payload") != 2000:
                got.append(next(items))

            gap, = controls(got, "gap")
            offsets = [one["offset"] for one in messages(got)]
            wait_until(lambda: stock.topics() == publisher.topics(), "the worker to count as the writer does")
    assert gap["why"] == "retention" and gap["first"] == 1
    assert offsets == [0, *range(gap["next"], 2001)]
    assert gap["count"] == gap["next"] - 1


@pytest.mark.parametrize("policy", ["drop", "drop_oldest", "conflate"])
def test_a_slow_consumer_at_a_worker_is_told_what_its_policy_left_out(server, policy):
    with client(server) as publisher, client(endpoint_of(workers_of(server)[0])) as stock:
        items = iter(stock.subscribe("a", {"policy": policy, "max_messages": 10}))
        got = [next(items)]
        for first in range(0, 20_000, 1000):
            publisher.publish_many("a", list(range(first, first + 1000)))

        while got[-1].get("payload") != 19_999:
            got.append(next(items))
            if policy == "drop" and got[-1].get("control") == "gap":
                publisher.publish("a", 19_999)

    gaps = controls(got, "gap")
    assert {gap["why"] for gap in gaps} == {policy}
    assert sum(gap["count"] for gap in gaps) + len(messages(got)) == 20_000 + (policy == "drop")


def test_a_slow_consumer_at_a_worker_is_ended_where_it_wants_that(server):
    with client(server) as publisher, client(endpoint_of(workers_of(server)[0])) as stock:
        items = iter(stock.subscribe("a", {"policy": "disconnect", "max_messages": 10}))
        next(items)

        publisher.publish_many("a", list(range(1000)))

        with pytest.raises(zerorpc.RemoteError, match="SlowConsumer"):
            while True:
                next(items)


def test_topics_are_known_to_a_worker_as_they_come_up(server):
    with client(server) as publisher, client(endpoint_of(workers_of(server)[0])) as stock, ExitStack() as stack:
        publisher.publish("t.0", 0)
        reader = stack.enter_context(Client(server.endpoint))
        subscription = reader.subscribe("t.*", start="earliest")

        for number in range(1, 200):
            publisher.publish(f"t.{number}", number)

        assert [next(subscription).payload for _ in range(200)] == list(range(200))
        assert stock.topics() == publisher.topics()
