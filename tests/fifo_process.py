"""A process that fills a FifoStore and works on it, and says what it was answered: ``KIND PRODUCER NUMBER`` lines.

``python -m tests.fifo_process PLACE WAY DURABILITY``. WAY: ``alone``, one thread does both in turn; ``greenlets`` or
``threads``, some add while another works. Kinds: ``added``, ``work`` (front returned it), ``popped``.
"""

import os
import random
import sys
import threading
import time

import gevent

from zstreampub import FifoStore
from zstreampub.disk import journal
from zstreampub.spool import contents

PRODUCERS = 3


def say(kind, message):
    os.write(1, b"%s %d %d\n" % (kind.encode(), *message[:2]))


def add_some(store, producer, chance):
    """Add the next messages of *producer*, whose mark says where it is, in the same transaction."""
    first = store.mark(f"next.{producer}") or 0
    count = chance.choice([1, 1, 1, 2, 30])
    group = [[producer, number, bytes(chance.choice([10, 300, 20_000]))] for number in range(first, first + count)]
    if count == 1:
        store.add(group[0], mark=(f"next.{producer}", first + 1))
    else:
        store.add_many(group, mark=(f"next.{producer}", first + count))
    for message in group:
        say("added", message)


def work_one(store):
    """Front, work, pop."""
    message = store.front()
    if message is None:
        return False
    say("work", message)
    store.pop_front()
    say("popped", message)
    return True


def main():
    place, way, durability = sys.argv[1:]
    journal.FILE_BYTES = 60_000      # often full
    contents.DELETE_BYTES = 300_000
    chance = random.Random()
    store = FifoStore(place, durability=durability)
    if way == "alone":
        while True:
            add_some(store, chance.randrange(PRODUCERS), chance)
            for _ in range(chance.choice([0, 1, 3, 30])):
                work_one(store)

    def produce(producer):
        while True:
            if len(store) < 300:
                add_some(store, producer, chance)
            pause(0.0002)

    def work():
        while True:
            if not work_one(store):
                pause(0.0003)

    pause = gevent.sleep if way == "greenlets" else time.sleep
    if way == "greenlets":
        gevent.joinall([gevent.spawn(produce, at) for at in range(PRODUCERS)] + [gevent.spawn(work)], raise_error=True)
    else:
        for at in range(PRODUCERS):
            threading.Thread(target=produce, args=(at,), daemon=True).start()
        work()


if __name__ == "__main__":
    main()
