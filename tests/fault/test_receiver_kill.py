"""kill -9 of receivers and of the server: a store holds what the log holds, once each, in order."""

import json
import random

import gevent
import pytest

from tests.processes import Child, ServerProcess, client, wait_until
from zstreampub import FifoStore

TOPIC = "numbers.made"
RECEIVERS: dict = {
    "threaded": {"threaded": True, "patterns": "numbers.>", "start": "earliest"},
    "green": {"threaded": False, "patterns": "numbers.>", "start": "earliest"},
    "filtered": {"threaded": True, "patterns": "numbers.>", "start": "earliest", "every": 3},
    "member": {"threaded": True, "patterns": "numbers.>", "start": "earliest", "consumer": "filing",
               "max_deliveries": 0},
}


class Play:
    """A server, publishers and the receivers; whoever was killed is brought back."""

    def __init__(self, folder):
        self.folder = folder
        self.server = ServerProcess(folder / "server", heartbeat_s=0.5, rejoin_grace_s=1.0)
        self.publisher = Child(folder / "publisher", "tests.worker_process", "publish", self.server.endpoint,
                               json.dumps({"name": "ada", "topic": TOPIC, "keys": 3, "said": 0}))
        self.receivers = {name: self._receiver(name) for name in RECEIVERS}

    def _receiver(self, name):
        options = {**RECEIVERS[name], "path": str(self.path(name))}
        return Child(self.folder / name, "tests.receiver_process", "receive", self.server.endpoint, json.dumps(options))

    def path(self, name):
        return self.folder / f"{name}-store"

    def kill(self, victim):
        if victim == "server":
            self.server.kill()
            self.server = self.server.again()
        else:
            self.receivers[victim].kill()
            self.receivers[victim] = self._receiver(victim)

    def stored(self, name):
        """Return how many of the log are in the store, or were left out by the filter before it."""
        return (self.receivers[name].said() or [0])[-1] * RECEIVERS[name].get("every", 1)

    def report(self):
        children = (*self.receivers.values(), self.publisher, self.server)
        return "\n".join(f"{child._log}:\n{child.log()[-1500:]}" for child in children if child.log())

    def end(self):
        for child in (*self.receivers.values(), self.publisher, self.server):
            child.kill()


def _survives(folder, rounds):
    chance = random.Random(rounds)
    play = Play(folder)
    try:
        for _ in range(rounds):
            before = {name: play.stored(name) for name in RECEIVERS}
            wait_until(lambda before=before: all(play.stored(name) > before[name] + 20 for name in before),
                       lambda before=before: f"more in the stores than {before}\n{play.report()}", deadline_s=60)
            gevent.sleep(chance.random() * 0.2)     # the moment of the kill is to be any
            for victim in chance.sample(["server", *RECEIVERS], chance.choice((1, 1, 2))):
                play.kill(victim)
        play.publisher.kill()
        with client(play.server) as asking:
            log = [(item["offset"], item["payload"]) for item in
                   asking.subscribe(TOPIC, {"start": "earliest", "until": "end"}) if "payload" in item]
        wait_until(lambda: all(play.stored(name) >= len(log) for name in RECEIVERS),
                   lambda: f"{len(log)} messages in {[play.stored(name) for name in RECEIVERS]}\n{play.report()}",
                   deadline_s=60)
    finally:
        play.end()
    for name in RECEIVERS:
        with FifoStore(play.path(name)) as store:
            found = [(message.offset, message.payload) for message in store]
        expected = log[::RECEIVERS[name].get("every", 1)]
        assert sorted(found) == expected, f"{name}: once each"
        if name != "member":
            assert found == expected, f"{name}: in order"
    return len(log)


@pytest.mark.timeout(120)
def test_a_store_holds_what_the_log_holds_whatever_is_killed(tmp_path):
    _survives(tmp_path, rounds=5)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_store_holds_what_the_log_holds_over_fifty_kills(tmp_path):
    print(_survives(tmp_path, rounds=50), "messages in each of three stores")
