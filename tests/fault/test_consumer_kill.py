"""kill -9 of server, members and publishers: every message is worked on, and its effect counts once."""

import json
import random
import sqlite3
from collections import defaultdict

import gevent
import pytest

from tests.processes import Child, ServerProcess, client, wait_until
from tests.worker_process import open_book

TOPIC = "jobs.made"
PUBLISHERS = ("ada", "bob")
MEMBERS = 4     # of each of the two consumers
MODES = {"shared": "workers", "key_ordered": "inorder"}
KEYS = 3        # of each publisher


class Play:
    """Everybody who takes part; whoever was killed can be brought back."""

    def __init__(self, folder):
        self.folder = folder
        self.book = folder / "book.sqlite"
        open_book(self.book).close()
        self.server = ServerProcess(folder / "server", heartbeat_s=0.5, rejoin_grace_s=3.0)
        self.members = {(mode, at): self._member(mode, at) for mode in MODES for at in range(MEMBERS)}
        self.publishers = {name: self._publisher(name) for name in PUBLISHERS}
        self.answers = {name: {} for name in PUBLISHERS}

    def _member(self, mode, at):
        options = {"topic": TOPIC, "consumer": MODES[mode], "mode": mode, "book": str(self.book),
                   "in_flight": (1, 5, 40, 200)[at]}
        return self._child(self.folder / f"{mode}{at}", "work", options)

    def _publisher(self, name):
        said = max(getattr(self, "answers", {}).get(name, {0: 0}), default=0)
        return self._child(self.folder / name, "publish", {"name": name, "topic": TOPIC, "keys": KEYS, "said": said})

    def _child(self, folder, what, options):
        return Child(folder, "tests.worker_process", what, self.server.endpoint, json.dumps(options))

    def kill(self, victim):
        """Kill *victim* and bring it back."""
        if victim == "server":
            self.server.kill()
            self.server = self.server.again()
        elif victim in self.publishers:
            self.publishers[victim].kill()
            self._read_answers(victim)
            self.publishers[victim] = self._publisher(victim)
        else:
            self.members[victim].kill()
            self.members[victim] = self._member(*victim)

    def stop_publishing(self):
        for name, publisher in self.publishers.items():
            publisher.kill()
            self._read_answers(name)

    def _read_answers(self, name):
        self.answers[name].update(self.publishers[name].said())

    def worked(self):
        """Return how many effects there are of each consumer."""
        found = dict.fromkeys(MODES.values(), 0)
        found.update(self.query("SELECT consumer, count(*) FROM effects GROUP BY consumer"))
        return found

    def query(self, text):
        book = sqlite3.connect(self.book, timeout=30)
        try:
            return book.execute(text).fetchall()
        finally:
            book.close()

    def log(self):
        processes = (*self.members.values(), *self.publishers.values(), self.server)
        return "\n".join(f"{process._log}:\n{process.log()[-1500:]}" for process in processes if process.log())

    def end(self):
        for process in (*self.members.values(), *self.publishers.values(), self.server):
            process.kill()


def _survives(folder, rounds):
    chance = random.Random(rounds)
    play = Play(folder)
    try:
        for _ in range(rounds):
            before = play.worked()
            wait_until(lambda before=before: all(play.worked()[one] > before[one] + 20 for one in before),
                       lambda: f"work on 20 messages {play.worked()}\n{play.log()}", deadline_s=60)
            gevent.sleep(chance.random() * 0.3)     # the moment of the kill is to be any
            for victim in chance.sample(["server", *play.publishers, *play.members], chance.choice((1, 1, 2))):
                play.kill(victim)
        play.stop_publishing()
        _finish(play)
        return _check(play)
    finally:
        play.end()


def _finish(play):
    with client(play.server) as asking:
        def done():
            found = [asking.consumer(name) for name in MODES.values()]
            return all(not one["pending"] and not one["lag"]["messages"] for one in found)
        wait_until(done, lambda: f"{[asking.consumer(name) for name in MODES.values()]}\n{play.log()}", deadline_s=90)


def _check(play):
    with client(play.server) as asking:
        log = {item["offset"]: item for item in asking.subscribe(TOPIC, {"start": "earliest", "until": "end"})
               if "payload" in item}
        dead = sum(asking.consumer(name)["dead"] for name in MODES.values())
    stored = {tuple(item["payload"]): offset for offset, item in log.items()}
    assert len(stored) == len(log), "each message is stored once, however often it was published"
    assert dead == 0
    for name, answers in play.answers.items():
        assert all(stored[name, number] == offset for number, offset in answers.items()), "what was answered is there"
    for consumer in MODES.values():
        effects = play.query(f"SELECT offset, name, number FROM effects WHERE consumer = '{consumer}'")
        assert {offset for offset, _, _ in effects} == log.keys(), "every message was worked on"
        assert len({(name, number) for _, name, number in effects}) == len(effects), "and its effect counts once"
    by_key = defaultdict(list)
    for offset, key in play.query("SELECT offset, key FROM work WHERE consumer = 'inorder' ORDER BY rowid"):
        by_key[key].append(offset)
    assert len(by_key) == KEYS * len(PUBLISHERS)
    for key, offsets in by_key.items():
        assert offsets == sorted(offsets), f"the messages of key {key} were worked on in their order"
    work = play.query("SELECT count(*) FROM work")[0][0]
    return len(log), work


@pytest.mark.timeout(240)
def test_every_message_is_worked_on_and_its_effect_counts_once(tmp_path):
    _survives(tmp_path, rounds=6)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_every_message_is_worked_on_and_its_effect_counts_once_over_a_hundred_kills(tmp_path):
    stored, worked = _survives(tmp_path, rounds=100)
    print(f"{stored} messages, worked on {worked} times by two consumers")
