"""SIGTERM and ctrl-C: streams are told where to resume, publishes in flight are answered, the exit is in time."""

import json
import signal

import gevent
import pytest
import zerorpc

from tests.processes import Child, ServerProcess, client, controls, messages, wait_until
from tests.raw_peer import RawPeer

DRAIN_S = 1.0
IN_TIME_S = 15      # a deadline, many times what it takes


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server", heartbeat_s=0.5, drain_timeout_s=DRAIN_S) as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_ends_with_a_place_to_resume_from_and_nothing_is_lost(tmp_path, server, number):
    with client(server, heartbeat=0.5) as publisher:
        for count in range(20):
            publisher.publish_many("a", list(range(count * 100, count * 100 + 100)))
        options = {"patterns": "a", "heartbeat": 0.5, "short": True, "pause_s": 0.001,
                   "subscribe": {"start": "earliest"}}
        with Child(tmp_path / "one", "tests.stock_process", "subscribe", server.endpoint, json.dumps(options)) as one:
            wait_until(lambda: len(messages(one.said())) > 200, "some messages")

            server.terminate(number)

            assert server.wait(IN_TIME_S) == 0
            assert one.wait() == 0
            *items, ended = one.said()
            end, = controls(items, "end")
            got = [message["offset"] for message in messages(items)]
            assert (end["why"], ended["ended"]) == ("ServerDraining", "ServerDraining")
            assert got == list(range(end["resume"])) and len(got) < 2_000
            assert str(end["resume"]) in ended["message"]
    with server.again() as again, client(again) as back:
        rest = messages(back.subscribe("a", {"start": end["resume"], "until": "end"}))
        assert [message["payload"] for message in rest] == list(range(end["resume"], 2_000))


def test_publishes_in_flight_are_answered_or_refused_and_what_was_answered_is_there(tmp_path, server):
    answers, refusals = [], []
    with client(server, heartbeat=0.5) as one:
        def publish(name):
            number = 0
            while True:
                try:
                    answers.append((one.publish("a", f"{name}-{number}"), f"{name}-{number}"))
                except zerorpc.RemoteError as error:
                    refusals.append(error.name)
                    return
                except (zerorpc.LostRemote, zerorpc.TimeoutExpired):
                    refusals.append("too late to be asked")
                    return
                number += 1

        tasks = [gevent.spawn(publish, name) for name in range(50)]
        wait_until(lambda: len(answers) > 500, "answers")

        server.terminate()

        assert server.wait(IN_TIME_S) == 0
        gevent.joinall(tasks, timeout=IN_TIME_S)
    assert set(refusals) <= {"ServerDraining", "too late to be asked"} and len(refusals) == 50
    with server.again() as again, client(again) as back:
        log = [(message["offset"], message["payload"])
               for message in messages(back.subscribe("a", {"start": "earliest", "until": "end"}))]
        assert set(answers) <= set(log)
        assert len(log) - len(answers) <= 50


def test_a_publisher_that_a_blocked_subscriber_holds_is_answered(server):
    with RawPeer(server.endpoint) as peer, client(server, heartbeat=0.5) as one:
        peer.open_stream("a", {"policy": "block", "max_messages": 1, "block_timeout_s": 60})
        held = gevent.spawn(one.publish_many, "a", [1, 2, 3])
        wait_until(lambda: [one["holding"] for one in one.subscriptions()] == [1], "a publisher that is held")

        server.terminate()

        assert held.get(timeout=IN_TIME_S) == [0, 3]
        assert server.wait(IN_TIME_S) == 0


def test_a_subscriber_that_never_reads_does_not_keep_the_server_from_leaving(tmp_path, server):
    options = {"patterns": "a", "heartbeat": 0.5, "short": True}
    with Child(tmp_path / "one", "tests.stock_process", "subscribe", server.endpoint, json.dumps(options)) as one:
        wait_until(one.said, "the greeting")
        one.freeze()
        with client(server, heartbeat=0.5) as publisher:
            for _ in range(20):
                publisher.publish_many("a", [b"x" * 100_000] * 10)

            server.terminate()

            assert server.wait(IN_TIME_S) == 0


def test_a_peer_that_never_reads_its_answers_does_not_keep_the_server_from_leaving(server):
    with client(server) as publisher:
        publisher.publish("a", b"x" * 20_000)
    with RawPeer(server.endpoint) as peer:
        for _ in range(3_000):
            peer.event("get", [0])
        with client(server) as other:
            wait_until(lambda: other.stats()["server"]["stuck_peers"], "a full pipe")

        server.terminate()

        assert server.wait(IN_TIME_S) == 0


def test_new_requests_are_refused_by_name_while_the_server_drains(server):
    with client(server, heartbeat=0.5) as one, RawPeer(server.endpoint) as never_grants:
        never_grants.open_stream("a")
        one.publish("a", 1)
        refused = []

        server.terminate()
        while not refused and server.running:
            try:
                one.publish("a", 2)
            except zerorpc.RemoteError as error:
                refused.append(error.name)
            except (zerorpc.LostRemote, zerorpc.TimeoutExpired):
                break

        assert refused in (["ServerDraining"], [])      # the server may have left before it was asked
        assert server.wait(IN_TIME_S) == 0


def test_a_second_signal_changes_nothing(server):
    server.terminate()
    server.terminate(signal.SIGINT)
    server.terminate()

    assert server.wait(IN_TIME_S) == 0
    assert "Traceback" not in server.log()


def test_a_signal_while_nobody_is_there_ends_the_server(server):
    server.terminate()

    assert server.wait(IN_TIME_S) == 0
    assert server.log() == ""
