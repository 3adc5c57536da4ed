"""kill -9 of a process that fills a FifoStore and works on it: what was answered holds, once each, in order."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fifo_process import PRODUCERS
from zstreampub import FifoStore

ROOT = Path(__file__).parents[2]
WAYS = ["alone", "greenlets", "threads"]


def run_and_kill(place, way, durability, lines):
    """Run the process, kill it after *lines* lines; return them all, as ``(kind, (producer, number))``."""
    child = subprocess.Popen([sys.executable, "-m", "tests.fifo_process", str(place), way, durability],
                             stdout=subprocess.PIPE, text=True, cwd=ROOT)
    said = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    said += child.stdout.readlines()
    child.wait()
    assert all(said), "the process ended before it was killed"
    words = [line.split() for line in said if line.endswith("\n")]
    return [(kind, (int(producer), int(number))) for kind, producer, number in words]


class Book:
    """What was said in all rounds, held against what the store has."""

    def __init__(self):
        self.added = [0] * PRODUCERS        # the next number that was not answered
        self.worked = Counter()
        self.popped = set()
        self.kills = 0

    def note(self, said):
        self.kills += 1
        for kind, (producer, number) in said:
            if kind == "added":
                self.added[producer] = max(self.added[producer], number + 1)
            elif kind == "work":
                self.worked[producer, number] += 1
            else:
                self.popped.add((producer, number))

    def check(self, store):
        found = [(producer, number) for producer, number, _ in store]
        assert len(found) == len(store) == len(set(found)), "each message is there once"
        for producer in range(PRODUCERS):
            next = store.mark(f"next.{producer}") or 0
            assert next >= self.added[producer], "what was answered is there"
            there = [number for name, number in found if name == producer]
            assert there == list(range(next - len(there), next)), "in order, up to the mark"
            gone = next - len(there)
            assert all(self.worked[producer, number] for number in range(gone)), "nothing goes unseen"
        assert not self.popped.intersection(found), "what was popped does not come again"
        assert sum(self.worked.values()) - len(self.worked) <= self.kills, "at most the one in work comes again"


def kill_again_and_again(place, rounds, chance):
    book = Book()
    for at in range(rounds):
        book.note(run_and_kill(place, WAYS[at % 3], chance.choice(["sync", "relaxed"]), chance.randrange(1, 1500)))
        with FifoStore(place) as store:
            book.check(store)
    assert len(book.popped) > rounds and sum(book.added) > rounds


def test_a_store_survives_kill_9(tmp_path):
    kill_again_and_again(tmp_path / "store", 6, random.Random(4))


@pytest.mark.campaign
def test_a_store_survives_kill_9_fifty_times(tmp_path):
    for seed in range(5):
        kill_again_and_again(tmp_path / f"store{seed}", 50, random.Random())
