"""kill -9 of a process that replaces what a LatestStore has: what was answered is there, and as a whole."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from zstreampub import LatestStore

ROOT = Path(__file__).parents[2]
TOPICS = ["a", "b", "c"]

PROGRAM = """
import os, random, sys
from zstreampub import LatestStore, Message

store = LatestStore(sys.argv[1], by="topic", durability=sys.argv[2])
number = store.mark("number") or 0
chance = random.Random(number)
while True:
    number += 1
    topics = chance.sample(["a", "b", "c"], chance.choice([1, 1, 2, 3]))
    store.add_many([Message(topic, number, 1.0, bytes(chance.choice([10, 5_000]))) for topic in topics],
                   mark=("number", number))
    os.write(1, b"%d %s\\n" % (number, "".join(topics).encode()))
"""


def run_and_kill(place, durability, lines):
    """Run the process, kill it after *lines* lines; return ``(number, topics)`` of all that was answered."""
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(place), durability], stdout=subprocess.PIPE,
                             text=True, cwd=ROOT)
    said = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    said += child.stdout.readlines()
    child.wait()
    assert all(said), "the process ended before it was killed"
    return [(int(number), topics) for number, topics in (line.split() for line in said if line.endswith("\n"))]


def kill_again_and_again(place, rounds, chance):
    newest = dict.fromkeys(TOPICS, 0)
    for _ in range(rounds):
        answered = run_and_kill(place, chance.choice(["sync", "relaxed"]), chance.randrange(1, 300))
        for number, topics in answered:
            newest.update(dict.fromkeys(topics, number))
        with LatestStore(place, by="topic") as store:
            last = store.mark("number")
            found = {topic: store.message(topic).offset for topic in store.names()}
            assert last - answered[-1][0] in (0, 1), "of what was not answered, at most what was under way"
            assert all(found.get(topic, 0) in (number, last) for topic, number in newest.items() if number)
            assert last in found.values() and max(found.values()) == last, "the mark fits the messages"
            newest.update(found)


def test_the_newest_survives_kill_9(tmp_path):
    kill_again_and_again(tmp_path / "store", 6, random.Random(4))


@pytest.mark.campaign
def test_the_newest_survives_kill_9_fifty_times(tmp_path):
    kill_again_and_again(tmp_path / "store", 50, random.Random())
