"""kill -9 of the server while clients publish: what was answered is there, in order, once."""

import json
import random

import gevent
import pytest

from tests.processes import Child, ServerProcess, client, messages, wait_until

BEAT_S = 0.5
PUBLISHERS = ("ada", "bob", "cyd")
TOPICS = {"ada": "made.ada", "bob": "made.bob", "cyd": "made.ada"}      # two of them share one


def _stock(directory, what, server, **options):
    options = {"heartbeat": BEAT_S, "timeout": 5, **options}
    return Child(directory, "tests.stock_process", what, server.endpoint, json.dumps(options))


def _reads_all(reader, count):
    wait_until(lambda: reader.said_count() >= count, lambda: f"{reader.said_count()} of {count}\n{reader.log()}")


def _survives(tmp_path, rounds):
    chance = random.Random(rounds)
    server = ServerProcess(tmp_path / "server", heartbeat_s=BEAT_S)
    publishers = [_stock(tmp_path / name, "publish", server, name=name, topic=TOPICS[name]) for name in PUBLISHERS]
    readers = {pattern: _stock(tmp_path / f"reader{number}", "resume", server, patterns=pattern)
               for number, pattern in enumerate(["made.>", "made.bob"])}
    try:
        for _ in range(rounds):
            counts = [publisher.said_count() for publisher in publishers]
            wait_until(lambda before=counts: all(publisher.said_count() > count + 20 for publisher, count in
                                                 zip(publishers, before)), "answers to all publishers")
            gevent.sleep(chance.random() * 0.5)      # the moment of the kill is to be any
            server.kill()
            server = server.again()
        for publisher in publishers:
            publisher.kill()

        with client(server) as asking:
            log = {pattern: [[message["offset"], message["payload"]] for message in messages(
                asking.subscribe(pattern, {"start": "earliest", "until": "end"}))] for pattern in readers}
        for pattern, reader in readers.items():
            _reads_all(reader, len(log[pattern]))

        answers = [answer for publisher in publishers for answer in publisher.said() if isinstance(answer, list)]
        offsets = [offset for offset, _ in log["made.>"]]
        stored = dict(log["made.>"])
        assert offsets == sorted(set(offsets)), "each offset once, in order"
        assert len(set(stored.values())) == len(stored), "each message once"
        assert [answer for answer in answers if stored.get(answer[0]) != answer[1]] == [], "answered and not there"
        assert len(answers) == len(set(map(tuple, answers))) > rounds * 20
        for pattern, reader in readers.items():
            assert [item for item in reader.said() if isinstance(item, list)] == log[pattern]
            assert [item for item in reader.said() if "control" in item] == []
        return len(stored), len(answers)
    finally:
        for process in (*publishers, *readers.values(), server):
            process.kill()


def test_what_was_answered_is_there_once_after_the_server_was_killed(tmp_path):
    _survives(tmp_path, rounds=5)


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_what_was_answered_is_there_once_after_the_server_was_killed_fifty_times(tmp_path):
    stored, answered = _survives(tmp_path, rounds=50)
    print(f"{stored} stored, {answered} answered")


def test_a_server_that_was_killed_while_it_started_starts_again(tmp_path):
    with ServerProcess(tmp_path) as server:
        with client(server) as one:
            offsets = [one.publish("a", n) for n in range(10)]
        server.kill()
    for pause_s in (0.1, 0.2, 0.3, 0.4):
        options = {"bind": "tcp://127.0.0.1:0", "store": server.store, "settings": {}, "service": None, "clock": None}
        with Child(tmp_path / "early", "tests.serving", json.dumps(options)):
            gevent.sleep(pause_s)

    with ServerProcess(tmp_path) as again, client(again) as one:
        got = messages(one.subscribe("a", {"start": "earliest", "until": "end"}))
        assert [message["offset"] for message in got] == offsets
