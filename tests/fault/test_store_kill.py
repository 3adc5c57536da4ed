"""SIGKILL at any moment: every offset that was reported is there, once, with all that its append carried."""

import os
import random
import subprocess
import sys

from tests.store_tools import Stores, contents, read_all
from zstreampub.message import Batch

ROUNDS = 12

WRITER = """
import sys, gevent
from tests.store_tools import Follower
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append
from zstreampub.stores import open_store

store = open_store("lmdb:" + sys.argv[1], Settings(
    retention=(Retention("short", max_messages=50),), retention_interval_s=0.01, durability=sys.argv[2]))

def deliver(appends):
    for append in appends:
        for batch, first in zip(append.batches, append.firsts):
            if batch.topic != "short":
                print(first, append.reply, flush=False)
    sys.stdout.flush()

store.follow(deliver)
number = int(sys.argv[3])
while True:
    for _ in range(number % 7 + 1):
        store.append(Append([Batch.of("short", ["x"]),
                             Batch.of(f"t.{number % 3}", [number], keys=["k"], ids=[str(number)])],
                            reply=number, producer=b"p", sequence=number, changes=[b"%d" % number],
                            records={b"newest": b"%d" % number}, journal_from=number % 1_000_000 - 300))
        number += 1
    store.append(Append(records={b"alone": b"%d" % number}))
    gevent.sleep(0.0005)
"""


def write_and_kill(place, durability, start, wait_lines):
    """Run a writer, kill it after *wait_lines* reports; return its reports ``(offset, number)``."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(place), durability, str(start)],
                             stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    lines = [child.stdout.readline() for _ in range(wait_lines)]
    child.kill()
    lines += child.stdout.readlines()
    child.wait()
    if lines and not lines[-1].endswith("\n"):
        lines.pop()     # killed in the middle of saying it
    return [tuple(map(int, line.split())) for line in lines]


def check_what_goes_together(store, follower, stored):
    """What one append carries is there, all of it or nothing."""
    newest = max(stored.values())
    journal = store.journal()
    changes = [int(change) for _, change in journal]
    assert [number for number, _ in journal] == list(range(journal[0][0], journal[0][0] + len(journal)))
    assert changes == sorted(stored.values())[-len(changes):]
    records = {key: int(value) for key, value in store.records(b"")}
    assert records.pop(b"newest") == newest
    assert all(newest - 6 <= number <= newest + 1 for number in records.values())
    for offset, number in list(stored.items())[-20:]:
        repeat = follower.append(Batch.of(f"t.{number % 3}", [number], ids=[str(number)]))
        assert repeat.duplicate and repeat.firsts == [offset]


def kill_again_and_again(place, durability):
    chance = random.Random(20)
    reported = []
    for round in range(ROUNDS):
        reports = write_and_kill(place, durability, 1_000_000 * round, chance.randrange(1, 300))
        assert reports, "the writer wrote something before it was killed"
        assert not reported or reports[0][0] > reported[-1][0], "no offset is given twice"
        reported += reports
        stores = Stores("lmdb", place)
        store, follower = stores.open()
        stored = {offset: payload for offset, topic, payload in contents(read_all(store, trims=store.trim_mark())[0])
                  if topic != "short"}
        assert all(stored.get(offset) == number for offset, number in reported)
        assert len(set(stored.values())) == len(stored), "nothing is stored twice"
        check_what_goes_together(store, follower, stored)
        stores.close_all()      # checks the whole store


def test_every_reported_offset_is_there_after_each_of_many_kills(tmp_path):
    kill_again_and_again(tmp_path / "store", "sync")


def test_also_of_a_relaxed_store(tmp_path):
    kill_again_and_again(tmp_path / "store", "relaxed")
