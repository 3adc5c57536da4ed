"""Durable consumers with nothing but the stock zerorpc client: everything that docs/protocol.rst promises of them."""

import json
import subprocess
import sys
import uuid
from contextlib import contextmanager

import gevent
import pytest
import zerorpc

from tests.processes import Child, ServerProcess, client, controls, messages, wait_until
from zstreampub.broker import Broker
from zstreampub.service import Service

METHODS = {"ack": ["consumer", "deliveries", "options"], "nack": ["consumer", "deliveries", "options"],
           "reject": ["consumer", "deliveries", "options"], "extend": ["consumer", "deliveries", "seconds"],
           "fetch": ["consumer", "options"], "peek": ["consumer"], "browse": ["consumer", "options"],
           "replace": ["consumer", "offset", "payload"], "consumers": [], "consumer": ["name"],
           "create_consumer": ["name", "patterns", "options"], "update_consumer": ["name", "options"],
           "delete_consumer": ["name"], "seek": ["consumer", "where"], "pause": ["consumer"], "resume": ["consumer"],
           "dead": ["consumer", "options"], "redrive": ["consumer", "options"], "purge": ["consumer", "options"],
           "clear_acked": ["consumer", "options"]}


@pytest.fixture
def one(server):
    """A client for calls; each stream has one of its own."""
    with client(server) as one:
        yield one


@pytest.fixture
def name():
    return f"c{uuid.uuid4().hex}"


@pytest.fixture
def filled(one, name):
    """Six messages of the topic that is called like the consumer; returns their offsets."""
    return [one.publish(name, number, {"key": "k"}) for number in range(6)]


@contextmanager
def joined(server, name, **options):
    """A stock client's stream of the consumer *name*, which reads from the beginning; the greeting is taken."""
    with client(server) as reading:
        stream = reading.subscribe(name, {"consumer": name, "start": "earliest", **options})
        greeting = next(stream)
        assert (greeting["control"], greeting["consumer"]) == ("subscribed", name)
        yield stream, greeting


def take(stream, count):
    """Return the next *count* messages."""
    found = []
    while len(found) < count:
        found += messages([next(stream)])
    return found


def named(items):
    return [[item["offset"], item["token"]] for item in items]


def offsets(items):
    return [item["offset"] for item in items]


@contextmanager
def worker(directory, server, name, number=0, acks=1 << 40, heartbeat=5, **join):
    """A process with a stock client that joins and acknowledges; see tests/stock_process.py."""
    options = {"consumer": name, "patterns": name, "acks": acks, "heartbeat": heartbeat,
               "join": {"start": "earliest", **join}}
    with Child(directory / f"worker{number}", "tests.stock_process", "consume", server.endpoint,
               json.dumps(options)) as child:
        yield child


def worked(child):
    """Return ``(received, acked)`` of a worker: lists of ``[offset, payload, delivery]`` and of offsets."""
    said = child.said()
    return [one for one in said if isinstance(one, list)], [one["acked"] for one in said if "acked" in one]


# --- receive and acknowledge ---------------------------------------------------------------------


def test_a_member_receives_and_acknowledges_and_nothing_comes_again(server, one, name, filled):
    with joined(server, name, max_in_flight=4) as (stream, greeting):
        first = take(stream, 4)
        assert one.ack(name, named(first)) == 4
        rest = take(stream, 2)
        assert one.ack(name, named(rest)) == 2

    assert (greeting["max_in_flight"], greeting["ack_wait_s"], greeting["held"]) == (4, 30.0, [])
    assert offsets(first + rest) == filled
    assert [(item["payload"], item["key"], item["delivery"]) for item in first] == [(n, "k", 1) for n in range(4)]
    described = one.consumer(name)
    assert (described["pending"], described["lag"]["messages"], described["acked"]) == (0, 0, 6)


def test_a_member_that_is_killed_and_rejoins_gets_exactly_what_was_not_acknowledged(server, one, name, filled,
                                                                                    tmp_path):
    with worker(tmp_path, server, name, acks=2) as first:
        wait_until(lambda: len(worked(first)[0]) == 6 and len(worked(first)[1]) == 2, lambda: first.said())
        first.kill()

    with worker(tmp_path, server, name, number=1) as second:
        wait_until(lambda: len(worked(second)[1]) == 4, lambda: second.said())
        received, acked = worked(second)

    assert [(offset, delivery) for offset, _, delivery in received] == [(offset, 2) for offset in filled[2:]]
    assert acked == filled[2:]
    assert one.consumer(name)["pending"] == 0


def test_two_members_share_the_messages_and_each_comes_to_one_of_them(server, one, name, tmp_path):
    with (worker(tmp_path, server, name, 0, max_in_flight=5) as a,
          worker(tmp_path, server, name, 1, max_in_flight=5) as b):
        wait_until(lambda: a.said() and b.said(), "both members")
        first, behind = one.publish_many(name, list(range(300)))
        wait_until(lambda: len(worked(a)[1]) + len(worked(b)[1]) == 300, lambda: one.consumer(name))
        by_a, by_b = worked(a)[1], worked(b)[1]

    assert sorted(by_a + by_b) == list(range(first, behind))
    assert by_a and by_b


def test_an_exclusive_consumer_has_one_member_at_work_and_the_next_takes_over(server, one, name, filled, tmp_path):
    with worker(tmp_path, server, name, acks=1, mode="exclusive") as active:
        wait_until(lambda: len(worked(active)[0]) == 6, lambda: active.said())
        with joined(server, name) as (stream, _):
            assert [member["active"] for member in one.consumer(name)["members"]] == [True, False]

            active.kill()

            assert offsets(take(stream, 5)) == filled[1:]


def test_messages_of_one_key_are_at_one_member_at_a_time_and_in_order(server, one, name, filled):
    other = one.publish(name, "other", {"key": "o"})
    with joined(server, name, mode="key_ordered") as (stream, _):
        first = take(stream, 2)
        assert offsets(first) == [filled[0], other]

        assert one.nack(name, named(first[:1])) == 1
        again, = take(stream, 1)
        assert (again["offset"], again["delivery"]) == (filled[0], 2)
        assert one.ack(name, named([again])) == 1

        assert offsets(take(stream, 1)) == filled[1:2]


def test_a_token_of_an_earlier_delivery_is_refused_as_stale(server, one, name, filled):
    with joined(server, name) as (stream, _):
        old = take(stream, 6)
        assert one.nack(name, named(old[:1])) == 1
        again, = take(stream, 1)

        with pytest.raises(zerorpc.RemoteError) as refused:
            one.ack(name, named(old))

        assert refused.value.name == "StaleDelivery" and str(filled[0]) in refused.value.msg
        assert one.consumer(name)["pending"] == 1
        assert one.ack(name, named([again])) == 1
        assert one.ack(name, named([again])) == 0, "what is settled by this token is settled"


def test_what_is_not_acknowledged_in_time_comes_again_and_extend_gives_more(server, one, name, filled):
    with joined(server, name, ack_wait_s=0.5, max_in_flight=2) as (stream, _):
        kept, left = take(stream, 2)
        assert one.extend(name, named([kept]), 3600) == 1

        again = next(item for item in stream if item.get("delivery") == 2)

        assert again["offset"] == left["offset"] and again["token"] > left["token"]
        assert one.ack(name, named([kept])) == 1


def test_what_is_given_back_does_not_wait_behind_all_that_is_new(server, one, name):
    first, _ = one.publish_many(name, list(range(3_000)))
    with joined(server, name, max_in_flight=10) as (stream, _):
        seen = take(stream, 1)
        assert one.nack(name, named(seen)) == 1
        while seen[-1]["offset"] != first or len(seen) == 1:
            seen += take(stream, 1)
            if seen[-1]["delivery"] == 1:
                one.ack(name, named(seen[-1:]))

    assert seen[-1]["delivery"] == 2
    assert len(seen) < 100


def test_a_nack_waits_as_long_as_it_says(server, one, name, filled):
    with joined(server, name) as (stream, _):
        items = take(stream, 6)
        assert one.nack(name, named(items[:1]), {"delay_s": 3600, "reason": "later"}) == 1
        assert one.nack(name, named(items[1:2]), {"delay_s": 0.05}) == 1

        assert offsets(take(stream, 1)) == filled[1:2]
        assert one.consumer(name)["waiting"] == 1


def test_an_ack_up_to_an_offset_and_one_of_a_range(server, one, name, filled):
    with joined(server, name) as (stream, _):
        items = take(stream, 6)

        assert len({item["token"] for item in items}) == 1, "they were given to it together"
        assert one.ack(name, None, {"before": filled[2]}) == 2
        assert one.ack(name, [[filled[2], filled[4], items[2]["token"]]]) == 2
        assert one.ack(name, filled[4]) == 1, "without a token, whatever delivery is the current one"

        assert [one["offset"] for one in one.browse(name)] == filled[5:]


def test_what_a_member_holds_it_may_bring_along_to_its_next_connection(server, one, name, filled):
    with client(server) as first:
        stream = first.subscribe(name, {"consumer": name, "start": "earliest", "member": "m"})
        greeting = next(stream)
        held = named(take(stream, 6))
        assert one.unsubscribe(greeting["id"]) is True

        with joined(server, name, member="m", held=held[:2]) as (again, greeting):
            assert sorted(greeting["held"]) == held[:2]
            assert offsets(take(again, 4)) == filled[2:]
            assert one.ack(name, held[:2]) == 2


# --- without a stream -----------------------------------------------------------------------------


def test_messages_can_be_fetched_without_a_stream(one, name, filled):
    one.create_consumer(name, name, {"start": "earliest"})

    first = one.fetch(name, {"count": 2})
    that, = one.fetch(name, {"offset": filled[4]})
    rest = one.fetch(name, {"count": 100, "timeout_s": 5})

    assert (offsets(first), that["offset"]) == (filled[:2], filled[4])
    assert offsets(rest) == [filled[2], filled[3], filled[5]]
    assert one.fetch(name) == []
    assert one.ack(name, named([*first, that, *rest])) == 6
    assert {"topic", "time", "payload", "key", "delivery", "token"} <= set(that)


def test_a_fetch_waits_for_the_first_message(server, one, name):
    one.create_consumer(name, name)
    with client(server) as other:
        waiting = gevent.spawn(other.fetch, name, {"count": 5, "timeout_s": 25})
        gevent.sleep(0.1)
        offset = one.publish(name, "at last")

        assert [(item["offset"], item["payload"]) for item in waiting.get()] == [(offset, "at last")]


def test_what_is_there_can_be_looked_at_and_changed_before_it_is_delivered(one, name, filled):
    one.create_consumer(name, name, {"start": "earliest"})
    one.replace(name, filled[1], {"better": True})

    assert one.peek(name)["offset"] == filled[0]
    assert [(item["offset"], item["state"]) for item in one.browse(name)] == [(offset, "new") for offset in filled]
    assert [item["payload"] for item in one.fetch(name, {"count": 2})] == [0, {"better": True}]
    assert [item["state"] for item in one.browse(name, {"limit": 3})] == ["in_flight", "in_flight", "new"]
    assert offsets(one.browse(name, {"first": filled[4]})) == filled[4:]


# --- dead letters ------------------------------------------------------------------------------------


def test_dead_letters_are_listed_redriven_and_purged(server, one, name, filled):
    with joined(server, name, max_deliveries=2) as (stream, _):
        items = take(stream, 6)
        assert one.ack(name, named(items[3:])) == 3
        assert one.reject(name, named(items[:1]), {"reason": "unreadable"}) == 1
        assert one.nack(name, named(items[1:3])) == 2
        assert one.nack(name, named(take(stream, 2)), {"reason": "twice"}) == 2

        dead = wait_until(lambda: len(found := one.dead(name)) == 3 and found, lambda: one.dead(name))
        first, second, third = sorted(dead, key=lambda item: item["headers"]["dead-offset"])
        assert {item["topic"] for item in dead} == {f"$dead.{name}"}
        assert (first["payload"], first["key"], first["headers"]["dead-reason"]) == (0, "k", "rejected")
        assert first["headers"]["dead-error"] == "unreadable"
        for item, offset in ((second, filled[1]), (third, filled[2])):
            headers = item["headers"]
            assert (headers["dead-offset"], headers["dead-topic"], headers["dead-deliveries"]) == (offset, name, 2)
            assert (headers["dead-reason"], headers["dead-error"]) == ("max_deliveries", "twice")
        assert one.consumer(name)["dead"] == 3

        assert one.redrive(name, {"offsets": [first["offset"]]}) == 1
        revived, = take(stream, 1)
        assert (revived["payload"], revived["delivery"]) == (0, 1) and revived["offset"] > filled[-1]
        assert one.redrive(name, {"offsets": [second["offset"]], "topic": f"{name}.elsewhere"}) == 1
        assert one.last(f"{name}.elsewhere")["payload"] == 1
        assert one.purge(name) == 1

    assert (one.dead(name), one.consumer(name)["dead"]) == ([], 0)


def test_nobody_else_publishes_dead_letters(one, name):
    with pytest.raises(zerorpc.RemoteError) as refused:
        one.publish(f"$dead.{name}", 1)

    assert refused.value.name == "AccessError"


# --- looking and steering ----------------------------------------------------------------------------


def test_a_consumer_is_made_once_and_a_conflicting_join_is_told_the_difference(server, one, name):
    made = one.create_consumer(name, [name, "other.*"], {"ack_wait_s": 7, "mode": "key_ordered"})
    assert one.create_consumer(name, ["other.*", name]) == made

    with client(server) as reading:
        refused = []
        for patterns, options in ((name, {}), ([name, "other.*"], {"ack_wait_s": 8}), (None, {"mode": "shared"})):
            with pytest.raises(zerorpc.RemoteError) as error:
                next(reading.subscribe(patterns, {"consumer": name, **options}))
            refused.append((error.value.name, error.value.msg))

    assert [kind for kind, _ in refused] == ["ConsumerConflict"] * 3
    for (_, text), difference in zip(refused, ("patterns", "ack_wait_s is 7", "mode is 'key_ordered'")):
        assert difference in text


def test_an_unknown_consumer_is_told_so(server, one, name):
    with client(server) as reading:
        for call in (lambda: one.ack(name, 1), lambda: one.fetch(name), lambda: one.consumer(name),
                     lambda: next(reading.subscribe(None, {"consumer": name}))):
            with pytest.raises(zerorpc.RemoteError) as refused:
                call()
            assert refused.value.name == "UnknownConsumer"
    assert one.delete_consumer(name) is False


def test_a_consumer_can_be_steered(server, one, name, filled):
    with joined(server, name) as (stream, greeting):
        items = take(stream, 6)
        assert one.pause(name)["paused"] == "by request"
        assert one.ack(name, named(items[:5])) == 5
        assert one.resume(name)["paused"] is False
        assert next(stream) == {"control": "paused", "why": "by request"}
        assert next(stream) == {"control": "resumed"}

        assert one.seek(name, filled[4])["consumer"] == name
        assert offsets(take(stream, 2)) == filled[4:]
        assert one.update_consumer(name, {"max_deliveries": 3})["settings"]["max_deliveries"] == 3
        assert greeting["id"] in [member["id"] for member in one.consumer(name)["members"]]
        assert name in [each["consumer"] for each in one.consumers()]
        assert greeting["id"] in [each["id"] for each in one.subscriptions()]

        assert one.delete_consumer(name) is True
        items = []
        with pytest.raises(zerorpc.RemoteError) as ended:
            for item in stream:
                items.append(item)
    assert ended.value.name == "ConsumerDeleted"
    assert [(end["why"], end["resume"]) for end in controls(items, "end")] == [("ConsumerDeleted", None)]


def test_what_was_acknowledged_can_be_removed_from_the_log(one, name, filled):
    one.create_consumer(name, name, {"start": "earliest"})
    one.ack(name, named(one.fetch(name, {"count": 4})))

    assert one.clear_acked(name, {"keep_latest": 1}) == 3

    assert [item["messages"] for item in one.topics(name)] == [3]


# --- what survives -------------------------------------------------------------------------------------


def test_a_consumer_survives_a_kill_of_the_server(tmp_path):
    with ServerProcess(tmp_path) as server:
        with client(server) as one, joined(server, "c", max_in_flight=4, ack_wait_s=0.5) as (stream, _):
            sent = [one.publish("c", number) for number in range(8)]
            items = take(stream, 4)
            one.ack("c", named(items[:1]))
            one.nack("c", named(items[1:2]), {"delay_s": 3600})
            one.reject("c", named(items[2:3]), {"reason": "bad"})
            server.kill()

    with server.again() as server, client(server) as one:
        assert [item["headers"]["dead-offset"] for item in one.dead("c")] == sent[2:3]
        assert one.consumer("c")["acked"] == 1
        left = {item["offset"]: item["state"] for item in one.browse("c")}
        assert sorted(left) == [sent[1], *sent[3:]] and left[sent[1]] == "waiting"
        with joined(server, "c", ack_wait_s=0.5) as (stream, _):
            found = {}
            while set(found) != set(sent[3:]):
                for item in take(stream, 1):
                    found[item["offset"]] = item
                    one.ack("c", named([item]))
        assert found[sent[3]]["delivery"] == 2 and found[sent[3]]["token"] > items[3]["token"]
        with pytest.raises(zerorpc.RemoteError) as refused:
            one.ack("c", [[sent[3], items[2]["token"] + 1]])
        assert refused.value.name == "StaleDelivery"


def test_who_comes_back_after_a_restart_keeps_what_it_holds_and_may_acknowledge_it(tmp_path):
    with ServerProcess(tmp_path, rejoin_grace_s=1000) as server:
        with client(server) as one, joined(server, "c", ack_wait_s=1000, max_in_flight=4) as (stream, _):
            sent, _ = one.publish_many("c", list(range(8)))
            held = named(take(stream, 4))
            server.kill()

    with server.again() as server, client(server) as one:
        assert one.ack("c", held[:1]) == 1, "a token counts until the message is delivered again"
        with joined(server, "c", held=held, max_in_flight=4) as (stream, greeting):
            assert sorted(greeting["held"]) == held[1:]
            assert offsets(take(stream, 1)) == [sent + 4]
            assert one.ack("c", held) == 3, "the first was settled by this token, and counts 0"
            assert offsets(take(stream, 3)) == [sent + 5, sent + 6, sent + 7]


def test_workers_lose_nothing_though_they_and_the_server_are_killed(tmp_path):
    with ServerProcess(tmp_path / "server", heartbeat_s=0.5, rejoin_grace_s=0.5) as server:
        with (worker(tmp_path, server, "c", 0, heartbeat=0.5, max_in_flight=10) as a,
              worker(tmp_path, server, "c", 1, heartbeat=0.5) as b):
            with client(server, heartbeat=0.5) as one:
                wait_until(lambda: a.said() and b.said(), "both members")
                first, behind = one.publish_many("c", list(range(500)))
            wait_until(lambda: len(worked(a)[1]) > 20, lambda: a.said())
            server.kill()
            with server.again() as server, client(server, heartbeat=0.5) as one:
                a.kill()
                done = wait_until(lambda: one.consumer("c")["lag"]["messages"] == 0, lambda: one.consumer("c"), 60)
                assert done
                acked = set(worked(a)[1]) | set(worked(b)[1])
                received = {offset for child in (a, b) for offset, *_ in worked(child)[0]}

    assert received == set(range(first, behind))
    assert acked <= received


def test_a_lost_connection_gives_back_long_before_a_heartbeat_is_missed(tmp_path):
    with ServerProcess(tmp_path / "server", heartbeat_s=1000) as server, client(server, heartbeat=1000) as one:
        one.create_consumer("c", "c", {"start": "earliest"})
        with worker(tmp_path, server, "c", acks=0, heartbeat=1000) as holding:
            wait_until(lambda: one.consumer("c")["members"], "a member")
            one.publish("c", 1)
            wait_until(lambda: worked(holding)[0], lambda: holding.said())
            assert one.fetch("c") == []

            holding.kill()

            item, = one.fetch("c", {"timeout_s": 25})
            assert (item["payload"], item["delivery"]) == (1, 2)


# --- what a stock client sees of the methods ---------------------------------------------------------


def test_the_stock_command_lists_the_methods_of_consumers_with_a_line_of_what_they_do(server):
    done = subprocess.run([sys.executable, "-c", "from zerorpc.cli import main; main()", server.endpoint],
                          capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    lines = {line.split("(")[0].split()[0]: line for line in done.stdout.splitlines() if line and line[0] != " "}
    for method in METHODS:
        assert len(lines[method].split(maxsplit=1)[1]) > 20, "a line says what it does"


def test_introspection_tells_the_arguments_of_every_method(one):
    inspected = one._zerorpc_inspect()["methods"]

    for method, arguments in METHODS.items():
        assert [argument["name"] for argument in inspected[method]["args"]] == arguments
        assert inspected[method]["doc"]


@pytest.mark.parametrize("url", ["memory:", "lmdb"])
def test_consumers_work_on_a_stock_server_too(url, tmp_path):
    with Broker.open("memory:" if url == "memory:" else f"lmdb:{tmp_path / 'store'}") as broker:
        stock = zerorpc.Server(Service(broker), name="stock")
        stock.bind("tcp://127.0.0.1:0")
        task = gevent.spawn(stock.run)
        endpoint = stock._events._socket.last_endpoint
        with client(endpoint) as one, joined(endpoint, "c") as (stream, greeting):
            sent = [one.publish("c", number) for number in range(5)]
            items = take(stream, 5)
            assert offsets(items) == sent and greeting["held"] == []
            assert one.ack("c", named(items[:3])) == 3
            assert one.reject("c", named(items[3:4]), {"reason": "bad"}) == 1
            assert len(one.dead("c")) == 1
            assert one.nack("c", named(items[4:])) == 1
            assert take(stream, 1)[0]["delivery"] == 2
            assert one.unsubscribe(greeting["id"]) is True
            with pytest.raises(zerorpc.RemoteError) as ended:
                list(stream)
            assert ended.value.name == "Unsubscribed"
            assert one.consumer("c")["waiting"] == 1
        stock.stop()
        task.kill()
        stock.close()
