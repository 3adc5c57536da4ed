"""kill -9 of the server and of who publishes: what an outbox has kept reaches the log, once each, in order."""

import random
import subprocess
import sys

import pytest

from tests.outbox_process import TOPICS
from tests.processes import ROOT, ServerProcess
from zstreampub import Client


class Publishing:
    """Runs the process again and again; ``kept[run][writer]`` is the last number that it was told to be kept."""

    def __init__(self, place, endpoint):
        self.kept = []
        self._arguments = [str(place), endpoint]
        self._child = None

    def start(self):
        self.kept.append({})
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.outbox_process", *self._arguments, str(len(self.kept) - 1)],
            stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._child.stdout.readline() == "open\n"

    def read(self, lines):
        for _ in range(lines):
            line = self._child.stdout.readline()
            assert line, "the process ended by itself"
            self._note(line)

    def kill(self):
        self._child.kill()
        for line in self._child.stdout:
            self._note(line)
        self._child.wait()

    def _note(self, line):
        if line.endswith("\n"):
            _, writer, number = line.split()
            self.kept[-1][writer] = int(number)


def read_all(client):
    log = {topic: [] for topic in TOPICS.values()}
    for message in client.subscribe("out.>", start="earliest", until="end"):
        log[message.topic].append(tuple(message.payload[:3]))
    return log


def check(log, kept):
    for writer, topic in TOPICS.items():
        found = log[topic]
        assert len(found) == len(set(found)), "each once"
        assert found == sorted(found), "in the order in which they were published, over all runs"
        for run, last in enumerate(kept):
            numbers = [number for one, _, number in found if one == run]
            assert numbers == list(range(len(numbers))), "without a hole"
            assert len(numbers) > last.get(writer, -1), "what was kept is there"


def kill_again_and_again(directory, rounds, chance):
    server = ServerProcess(directory / "server")
    publishing = Publishing(directory / "outbox", server.endpoint)
    alive = False
    try:
        for _ in range(rounds):
            if not alive:
                publishing.start()
            publishing.read(chance.randrange(1, 200))
            dies = chance.choice(["server", "publisher", "both", "server first"])
            if dies != "publisher":
                server.kill()
            if dies == "server first":      # what is published now waits on disk
                publishing.read(chance.randrange(1, 30))
            alive = dies == "server"
            if not alive:
                publishing.kill()
            if not server.running and chance.random() < 0.8:
                server = server.again()
        if alive:
            publishing.kill()
        if not server.running:
            server = server.again()
        with Client(server.endpoint, outbox=directory / "outbox") as client:
            client.outbox.wait_until_sent(60)
            assert client.outbox.messages == client.outbox.refused_count == 0
            check(read_all(client), publishing.kept)
    finally:
        server.kill()


def test_an_outbox_delivers_each_message_once_over_kill_9(tmp_path):
    kill_again_and_again(tmp_path, 5, random.Random(11))


@pytest.mark.campaign
def test_an_outbox_delivers_each_message_once_over_kill_9_fifty_times(tmp_path):
    kill_again_and_again(tmp_path, 50, random.Random())
