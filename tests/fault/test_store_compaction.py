"""SIGKILL in the middle of compaction: the newest of each key is there, and what was deleted does not come back."""

import os
import random
import subprocess
import sys

from tests.store_tools import Stores, read_all

ROUNDS = 15

WRITER = """
import random, sys, gevent
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append, Guard
from zstreampub.stores import checkpoint, compaction, open_store, sweep, writer
from zstreampub.topics import PatternSet
# Often, so that kills meet them: passes of several stages and many steps, segments, saved counters.
compaction.LEAST_NEW, compaction.MOST_KEYS, compaction.LOOKS = 10, 7, 0
sweep.STEP_RANGES = 5
writer.SEGMENT_BATCHES, checkpoint.EVERY_BATCHES, writer.RUN_BATCHES = 40, 30, 4

store = open_store("lmdb:" + sys.argv[1], Settings(
    retention=(Retention("kv.>", newest_per_key=True),), retention_interval_s=0.01, tombstone_s=0.0))

def deliver(appends):
    for append in appends:
        print(*append.firsts, *append.reply)
    sys.stdout.flush()

store.follow(deliver)
store.guard([])     # after a restart compaction waits for it
chance = random.Random(int(sys.argv[2]))
while True:
    for _ in range(chance.randrange(1, 6)):
        topic, keys = f"kv.{chance.randrange(2)}", [f"k{chance.randrange(30)}" for _ in range(4)]
        values = [chance.choice([1, 2, None]) for _ in keys]
        marks = [f"{topic}:{key}:{'deleted' if value is None else 'set'}" for key, value in zip(keys, values)]
        store.append(Append([Batch.of(topic, values, keys=keys)], reply=marks))
        store.append(Append([Batch.of("other", [1] * 3)], reply=[]))
    if chance.random() < 0.2:
        store.guard([Guard("c", PatternSet(["kv.0"]), max(store.bounds()[1] - 100, 0))])
    gevent.sleep(0.001)
"""


def write_and_kill(place, seed, lines):
    """Run a writer, kill it after it has reported *lines* appends; return its reports: lists of words."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(place), str(seed)], stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": os.getcwd()})
    told = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    told += child.stdout.readlines()
    child.wait()
    if told and not told[-1].endswith("\n"):
        told.pop()      # killed in the middle of saying it
    return [line.split() for line in told]


def test_the_newest_of_each_key_is_there_and_nothing_comes_back_after_each_of_many_kills(tmp_path):
    chance = random.Random(7)
    newest = {}     # (topic, key) -> (offset, whether it was a deletion) of the newest message reported
    mark = 0
    for seed in range(ROUNDS):
        for first, *marks in write_and_kill(tmp_path / "store", seed, chance.randrange(50, 600)):
            for offset, one in enumerate(marks, int(first)):
                topic, key, what = one.split(":")
                newest[topic, key] = offset, what == "deleted"
        stores = Stores("lmdb", tmp_path / "store")
        store, _ = stores.open()
        store.check()
        kept = {(message.topic, message.key): message.offset
                for batch in read_all(store, trims=store.trim_mark())[0] for message in batch.messages()}
        for (topic, key), (offset, deleted) in newest.items():
            found = kept.get((topic, key))
            last = store.last(topic, key)
            assert (last and last.first) == found
            assert deleted if found is None else found >= offset, f"{topic} {key} was last at {offset}"
        mark = store.trim_mark()
        stores.close_all()
    assert mark > ROUNDS, "there was nothing to compact"
