"""kill -9 of the bridge and of the server: what the bridge had stored is in the log, once each, in order.

What ZeroMQ itself holds when the bridge is killed is lost: the sender's socket counts it as sent. So
each kill of the bridge may cost one run of messages, and nothing else may cost any.
"""

import json
import random
import socket
from itertools import pairwise

import gevent
import pytest

from tests.processes import Child, ServerProcess, client, wait_until
from zstreampub.client.outbox.left import open_store
from zstreampub.client.outbox.records import Record


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Play:
    """A sender that knows only ZeroMQ, the bridge with its spool, a server."""

    def __init__(self, folder):
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.spool = folder / "spool"
        self.server = ServerProcess(folder / "server", heartbeat_s=0.5)
        self.sender = Child(folder / "sender", "tests.receiver_process", "push", self.address,
                            json.dumps({"pause_s": 0.0005}))
        self.bridge = self._bridge()
        self.spooled = set()        # what was in the spool when the bridge was killed
        self.kills = 0              # of the bridge

    def _bridge(self):
        return Child(self.folder / "bridge", "zstreampub.cli", "bridge", "--from", f"PULL@{self.address}", "--topic",
                     "in", "--topic-frame", "--spool", self.spool, "--address", self.server.endpoint,
                     "--report-s", "0.05")

    def kill(self, victim):
        if victim == "server":
            self.server.kill()
            gevent.sleep(0.2)       # so that there is something to spool
            self.server = self.server.again()
        else:
            self.bridge.kill()
            self.kills += 1
            self.look()
            self.bridge = self._bridge()

    def look(self):
        store, _ = open_store(self.spool)
        with store:
            self.spooled.update(int(message.payload) for item in store for message in Record(item).messages())

    def numbers(self):
        with client(self.server) as asking:
            items = asking.subscribe("in.numbers", {"start": "earliest", "until": "end"})
            return [int(item["payload"]) for item in items if "payload" in item]

    def next(self):
        with client(self.server) as asking:
            return asking.about()["next"]

    def report(self):
        children = (self.bridge, self.sender, self.server)
        return "\n".join(f"{child._log}:\n{child.log()[-1500:]}" for child in children if child.log())

    def end(self):
        for child in (self.bridge, self.sender, self.server):
            child.kill()


def _survives(folder, rounds):
    chance = random.Random(rounds)
    play = Play(folder)
    try:
        for _ in range(rounds):
            before = play.next()
            wait_until(lambda before=before: play.next() > before + 20, lambda: f"more in the log\n{play.report()}")
            gevent.sleep(chance.random() * 0.2)     # the moment of the kill is to be any
            for victim in chance.choice((["server"], ["bridge"], ["bridge"], ["server", "bridge"])):
                play.kill(victim)
        before = play.next()
        wait_until(lambda: play.next() > before + 20, play.report)
        play.sender.kill()
        wait_until(lambda: "ctrl-C ends" in play.bridge.log(), play.report)
        play.bridge.terminate()
        assert play.bridge.wait() == 143, play.report()
        play.look()
        numbers = play.numbers()
        last = numbers[-1]
        numbers += sorted(number for number in play.spooled if number > last)   # the next run would publish them
    finally:
        play.end()
    holes = sum(later != earlier + 1 for earlier, later in pairwise(numbers))
    assert numbers == sorted(set(numbers)), "once each, in order"
    assert numbers[0] == 0
    assert play.spooled <= set(numbers), "what was in the spool is in the log"
    assert holes <= play.kills, "nothing but a kill of the bridge costs any"
    return len(numbers), len(play.spooled), holes, play.kills


@pytest.mark.timeout(120)
def test_what_the_bridge_had_stored_is_in_the_log_whatever_is_killed(tmp_path):
    _survives(tmp_path, rounds=4)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_what_the_bridge_had_stored_is_in_the_log_over_fifty_kills(tmp_path):
    stored, spooled, holes, kills = _survives(tmp_path, rounds=50)
    print(f"{stored} messages, {spooled} of them seen in the spool of a killed bridge; {holes} holes by {kills} kills")
