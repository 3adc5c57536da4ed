"""Members of durable consumers against real servers, which are killed, frozen and cut off: nothing is lost."""

import gevent
import pytest

from tests.processes import DEADLINE_S, Child, ServerProcess, wait_until
from zstreampub.client import Client
from zstreampub.errors import ConsumerConflict, ConsumerDeleted, RequestTimeout, StaleDelivery, UnknownConsumer


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        yield client


def take(consumption, count):
    """Return the next *count* deliveries."""
    return [consumption.get(DEADLINE_S) for _ in range(count)]


def payloads(deliveries):
    return [delivery.payload for delivery in deliveries]


def done(future):
    """Wait for what was said of a delivery."""
    return future.get(timeout=DEADLINE_S)


# --- one member --------------------------------------------------------------------------------


def test_what_is_acknowledged_does_not_come_again_and_all_else_does(tmp_path):
    with ServerProcess(tmp_path, rejoin_grace_s=0.5) as server, Client(server.endpoint) as client:
        client.publish_many("a", range(6))
        with client.consume("a", "c", start="earliest") as consumption:
            deliveries = take(consumption, 6)
            for delivery in deliveries[:4]:
                done(delivery.ack())
        server.kill()
        with server.again() as server, client.consume(None, "c") as consumption:
            again = take(consumption, 2)
            state = client.consumer("c")

    assert payloads(again) == [4, 5]
    assert [delivery.delivery for delivery in again] == [2, 2]
    assert (state["pending"], state["lag"]["messages"]) == (2, 2)


def test_what_a_program_has_not_looked_at_when_it_leaves_does_not_count_as_delivered(client):
    client.publish_many("a", range(100))
    for _ in range(3):      # programs that come and go
        with client.consume("a", "c", start="earliest", max_deliveries=2) as consumption:
            done(take(consumption, 1)[0].ack())
            wait_until(lambda: client.consumer("c")["in_flight"] > 90, "the rest to be handed out")

    with client.consume(None, "c") as consumption:
        rest = take(consumption, 97)

    assert payloads(rest) == list(range(3, 100))
    assert {delivery.delivery for delivery in rest} == {1}
    assert client.consumer("c")["dead"] == client.consumer("c")["redelivered"] == 0


def test_an_ack_that_is_repeated_after_a_crash_is_fine(tmp_path):
    with ServerProcess(tmp_path) as server, Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        client.publish_many("a", range(3))
        client.create_consumer("c", "a", start="earliest")
        said = [(delivery.offset, delivery.token) for delivery in client.fetch("c", 2)]
        assert client.ack("c", said) == 2
        server.kill()
        with server.again():
            assert client.ack("c", said) == 0


def test_each_kind_of_word_does_what_it_says(server, client):
    client.publish_many("a", ["ack", "back", "later", "bad"])
    with client.consume("a", "c", start="earliest") as consumption:
        ack, back, later, bad = take(consumption, 4)
        done(ack.ack())
        done(back.nack())
        done(later.nack(delay_s=0.3))
        done(bad.reject("will never do"))
        first, second = take(consumption, 2)
        dead = client.dead("c")
        done(first.extend(60))
        done(first.ack())
        done(second.ack())
        wait_until(lambda: client.consumer("c")["lag"]["messages"] == 0, "an end of the work")

    assert [(one.payload, one.delivery) for one in (first, second)] == [("back", 2), ("later", 2)]
    assert [(one["payload"], one["headers"]["dead-reason"], one["headers"]["dead-error"]) for one in dead] == [
        ("bad", "rejected", "will never do")]


def test_a_dead_letter_may_be_given_another_life(server, client):
    client.publish("a", "x")
    with client.consume("a", "c", start="earliest") as consumption:
        done(take(consumption, 1)[0].reject())
        wait_until(lambda: client.dead("c"), "a dead letter")

        assert client.redrive("c") == 1
        [again] = take(consumption, 1)
        done(again.ack())

    assert (again.payload, again.delivery) == ("x", 1)
    assert client.dead("c") == []


def test_a_join_that_differs_says_what_differs(server, client):
    client.create_consumer("c", "a", ack_wait_s=5)

    with pytest.raises(ConsumerConflict, match="ack_wait_s"):
        client.consume("a", "c", ack_wait_s=6)
    with pytest.raises(UnknownConsumer):
        client.consume(None, "d")


def test_a_deleted_consumer_ends_its_members(server, client):
    consumption = client.consume("a", "c")

    assert client.delete_consumer("c")

    with pytest.raises(ConsumerDeleted):
        consumption.get(DEADLINE_S)


def test_messages_can_be_fetched_without_joining(server, client):
    client.publish_many("a", range(3))
    client.create_consumer("c", "a", start="earliest")

    first, second = client.fetch("c", 2)
    done(first.ack())
    done(second.nack())

    assert payloads([first, second]) == [0, 1]
    rest: list = []
    while len(rest) < 2:
        rest += client.fetch("c", 5, timeout_s=DEADLINE_S)
    assert sorted(payloads(rest)) == [1, 2]
    assert client.fetch("c", 5) == []


def test_only_the_stale_ones_are_told_that_they_are_stale(server, client):
    client.publish_many("a", range(9))
    client.create_consumer("c", "a", start="earliest", ack_wait_s=0.3)
    deliveries = client.fetch("c", 9)
    futures = [delivery.ack() for delivery in deliveries[:4]]
    wait_until(lambda: client.consumer("c")["waiting"] == 5, "an end of the leases")
    again = client.fetch("c", 2)

    futures += [delivery.ack() for delivery in deliveries[4:]]
    gevent.joinall(futures, timeout=DEADLINE_S)

    stale = [delivery.offset for delivery, future in zip(deliveries, futures) if not future.successful()]
    assert stale == [delivery.offset for delivery in again]
    assert all(isinstance(future.exception, StaleDelivery) for future in futures if not future.successful())


# --- several members ------------------------------------------------------------------------------


def test_a_member_that_leaves_gives_the_rest_to_the_others_at_once(server, client):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as other_client:
        leaver = other_client.consume("a", "c", ack_wait_s=60)
        client.publish_many("a", range(20))
        kept = take(leaver, 5)
        stayer = client.consume(None, "c")
        for delivery in kept[:2]:
            delivery.ack()

        leaver.close()

        assert sorted(payloads(take(stayer, 18))) == list(range(2, 20))
        stayer.close()


def test_a_member_whose_process_is_gone_gives_the_rest_to_the_others(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.2) as server:
        with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
            client.create_consumer("c", "a", ack_wait_s=600)
            with Child(tmp_path, "tests.idle_member", server.endpoint, "c") as member:
                client.publish_many("a", range(10))
                wait_until(lambda: client.consumer("c")["in_flight"] == 10, "a hand-out")
                consumption = client.consume(None, "c")
                member.kill()

                assert sorted(payloads(take(consumption, 10))) == list(range(10))


def test_messages_with_one_key_are_worked_on_one_after_the_other(server, client):
    client.publish_many("a", range(60), keys=[f"k{at % 3}" for at in range(60)])
    working: set = set()
    order: dict = {}

    def work(delivery):
        assert delivery.key not in working
        working.add(delivery.key)
        gevent.sleep(0.001)
        working.remove(delivery.key)
        if delivery.payload % 7 == 0 and delivery.delivery == 1:
            raise ValueError("again")
        order.setdefault(delivery.key, []).append(delivery.payload)
    consumption = client.consume("a", "c", start="earliest", mode="key_ordered")
    running = gevent.spawn(consumption.run, work, workers=5, on_exception=lambda *_: "nack")
    wait_until(lambda: sum(map(len, order.values())) == 60, lambda: f"all: {order}")
    consumption.close()
    running.get(timeout=DEADLINE_S)

    assert order == {f"k{key}": list(range(key, 60, 3)) for key in range(3)}


# --- time ------------------------------------------------------------------------------------------------


def test_long_work_is_not_death_and_what_waits_behind_it_is_not_delivered_again(server, client):
    client.publish_many("a", range(3))
    seen = []

    def work(delivery):
        seen.append((delivery.payload, delivery.delivery))
        gevent.sleep(0.7)
    consumption = client.consume("a", "c", start="earliest", ack_wait_s=0.3)
    other = client.consume(None, "c")
    running = gevent.spawn(consumption.run, work)
    wait_until(lambda: client.consumer("c")["lag"]["messages"] == 0, lambda: f"an end: {seen}")
    consumption.close()
    running.get(timeout=DEADLINE_S)

    with pytest.raises(RequestTimeout):
        other.get(0.05)
    assert seen == [(0, 1), (1, 1), (2, 1)]


# --- lost connections ------------------------------------------------------------------------------------------


def test_a_lost_connection_is_no_death_what_is_in_hand_stays_in_hand(tmp_path):
    with ServerProcess(tmp_path) as server, Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        client.publish_many("a", range(4))
        consumption = client.consume("a", "c", start="earliest", ack_wait_s=60)
        first, second = take(consumption, 2)
        done(first.ack())
        server.kill()
        with server.again():
            future = second.ack()
            wait_until(lambda: consumption.resumed and client.is_connected, "a new connection")
            done(future)
            rest = take(consumption, 2)
            for delivery in rest:
                done(delivery.ack())
            wait_until(lambda: client.consumer("c")["lag"]["messages"] == 0, "an end of the work")

    assert [(one.payload, one.delivery) for one in rest] == [(2, 1), (3, 1)]


def test_a_network_that_vanishes_is_noticed_and_its_member_comes_back(tmp_path):
    with ServerProcess(tmp_path, heartbeat_s=0.2) as server:
        with Child(tmp_path / "proxy", "tests.tcp_proxy", server.endpoint.removeprefix("tcp://")) as proxy:
            address = wait_until(proxy.said, "a proxy")[0]["endpoint"]
            with Client(address, timeout_s=DEADLINE_S, heartbeat_s=0.2) as client, \
                    Client(server.endpoint, timeout_s=DEADLINE_S) as other:
                consumption = client.consume("a", "c", ack_wait_s=600)
                other.publish_many("a", range(5))
                done(take(consumption, 1)[0].ack())
                proxy.freeze()
                wait_until(lambda: not client.is_connected, "notice of the silence")
                wait_until(lambda: not other.consumer("c")["members"], "notice of the silence by the server")
                proxy.thaw()

                seen = set()
                while seen != set(range(1, 5)):
                    delivery = consumption.get(DEADLINE_S)
                    try:
                        done(delivery.ack())
                    except StaleDelivery:
                        continue        # it was here before, and is on its way again
                    seen.add(delivery.payload)
                assert other.consumer("c")["lag"]["messages"] == 0


def test_a_connection_that_breaks_is_made_anew_with_all_that_is_in_hand(tmp_path):
    with ServerProcess(tmp_path) as server:
        proxies = [Child(tmp_path / "proxy", "tests.tcp_proxy", server.endpoint.removeprefix("tcp://"))
                   for _ in range(2)]
        with proxies[0], proxies[1]:
            addresses = [wait_until(proxy.said, "a proxy")[0]["endpoint"] for proxy in proxies]
            with Client(addresses, timeout_s=DEADLINE_S) as client:
                client.publish_many("a", range(5))
                consumption = client.consume("a", "c", start="earliest", ack_wait_s=600)
                deliveries = take(consumption, 3)

                proxies[0].kill()       # the server hears nothing of it for two heartbeats

                for delivery in deliveries:
                    done(delivery.ack())
                deliveries += take(consumption, 2)
                for delivery in deliveries:
                    done(delivery.ack())
                state = client.consumer("c")

    assert [(one.payload, one.delivery) for one in deliveries] == [(at, 1) for at in range(5)]
    assert (state["lag"]["messages"], len(state["members"])) == (0, 1)


class Workers:
    """Members that work on all messages and keep what they did by offset, and publishers, until told to stop."""

    def __init__(self, endpoint, members=4, workers=4):
        self.effects: dict = {}         # offset -> payload: what an exactly-once program keeps with its results
        self.repeats = 0
        self.published: list = []
        self.stopping = False
        self.clients = [Client(endpoint, timeout_s=DEADLINE_S) for _ in range(members + 1)]
        self.clients[0].create_consumer("work", "load.>", ack_wait_s=20)
        self.consumptions = [client.consume(None, "work", max_in_flight=50) for client in self.clients[1:]]
        self._running = [gevent.spawn(one.run, self._work, workers=workers) for one in self.consumptions]
        self._publishing = [gevent.spawn(self._publish, number) for number in range(4)]

    def _work(self, delivery):
        if delivery.offset in self.effects:
            self.repeats += 1
            return
        gevent.sleep(0)
        self.effects.setdefault(delivery.offset, delivery.payload)

    def _publish(self, publisher):
        number = 0
        while not self.stopping:
            self.published.append((self.clients[0].publish(f"load.{publisher}", [publisher, number]),
                                   [publisher, number]))
            number += 1

    def wait_for_more(self, count=200):
        enough = len(self.effects) + count
        wait_until(lambda: len(self.effects) >= enough, self._progress)

    def finish(self):
        self.stopping = True
        gevent.joinall(self._publishing, timeout=DEADLINE_S, raise_error=True)
        wait_until(lambda: self.clients[0].consumer("work")["lag"]["messages"] == 0, self._progress)
        for consumption in self.consumptions:
            consumption.close()
        for one in self._running:
            one.get(timeout=DEADLINE_S)
        for client in self.clients:
            client.close()

    def _progress(self):
        return f"{len(self.published)} published, {len(self.effects)} worked on, {self.repeats} repeated"


def test_nothing_is_lost_while_the_server_is_killed_and_started(tmp_path):
    server = ServerProcess(tmp_path, rejoin_grace_s=1)
    workers = Workers(server.endpoint)
    try:
        for _ in range(5):
            workers.wait_for_more()
            server.kill()
            server = server.again()
        workers.wait_for_more()
        workers.finish()
    finally:
        server.kill()

    assert sorted(workers.effects.items()) == sorted(workers.published)
    assert len({tuple(payload) for payload in workers.effects.values()}) == len(workers.published)
    assert workers.repeats < len(workers.published) / 10    # a member that comes back keeps what it has
