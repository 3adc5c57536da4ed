"""Power cuts of a FifoStore, imitated as in test_store_power_cut.py: writes that were not synced are lost in part.

Under ``sync`` all that was answered is there. Under ``relaxed`` the store is what it was after some commit, and lacks
no more than the journal holds.
"""

import random

import pytest

from tests.recorded_writes import record_run
from zstreampub import FifoStore

CUTS = 30
PAGE = 4096
JOURNAL_BYTES = 24_000      # often full
DATA_BYTES = 21 << 20       # synced when the store is made

WRITER = f"""
import os, sys
from zstreampub import FifoStore
from zstreampub.disk import journal
from zstreampub.spool import contents
journal.FILE_BYTES, contents.DELETE_BYTES = {JOURNAL_BYTES}, 60_000
store = FifoStore(sys.argv[1], durability=sys.argv[2])
said = os.open(sys.argv[1] + "/said", os.O_WRONLY | os.O_CREAT)
number = taken = 0
for at in range(300):
    count = (1, 1, 2, 40, 1)[at % 5]
    store.add_many([b"%d " % one + bytes((10, 700)[at % 2]) for one in range(number, number + count)],
                   mark=("next", number + count))
    number += count
    os.write(said, b"%d %d\\n" % (taken, number))
    if at % 3:
        for _ in range(3):
            store.front()
            taken += store.pop_front()
            os.write(said, b"%d %d\\n" % (taken, number))
    if at % 50 == 20:
        taken += store.pop_many(number - taken - 3)
        os.write(said, b"%d %d\\n" % (taken, number))
    if at in (90, 200):
        store.close()
        store = FifoStore(sys.argv[1], durability=sys.argv[2])
os._exit(0)
"""


class Disk:
    """One file as the disk has it: what is synced, and what may or may not be there yet."""

    def __init__(self):
        self.synced = []        # (offset, bytes), in order
        self.loose = []

    def write(self, kind, offset, content):
        pieces = [(at, content[max(at, offset) - offset:at + PAGE - offset])
                  for at in range(offset // PAGE * PAGE, offset + len(content), PAGE)]
        pieces = [(max(at, offset), piece) for at, piece in pieces]
        if kind == "s":
            self.synced += pieces
        else:
            self.loose += pieces

    def sync(self):
        self.synced += self.loose
        self.loose = []

    def leave(self, path, size, chance):
        """Leave in *path* what the disk has; of what is not synced, each page or not."""
        with open(path, "wb") as file:
            for offset, content in self.synced + [one for one in self.loose if chance.random() < 0.5]:
                file.seek(offset)
                file.write(content)
            file.truncate(max(size, file.seek(0, 2)))


def cut(events, chance, place):
    """Leave in *place* what a disk may hold if the power goes after *events*; return what had been said."""
    disks = {"data.mdb": Disk(), "journal": Disk()}
    said = b""
    for kind, name, offset, content in events:
        if name == "said":
            said += content
        elif name in disks:
            disks[name].sync() if kind == "f" else disks[name].write(kind, offset, content)
    place.mkdir()
    disks["data.mdb"].leave(place / "data.mdb", DATA_BYTES, chance)
    disks["journal"].leave(place / "journal", JOURNAL_BYTES, chance)
    return [tuple(map(int, line.split())) for line in said.splitlines()]


def tear(events, chance):
    """Have the last write, if it is one to the journal, end somewhere within."""
    kind, name, offset, content = events[-1]
    if name == "journal" and kind != "f" and chance.random() < 0.5:
        events = [*events[:-1], (kind, name, offset, content[:chance.randrange(len(content) + 1)])]
    return events


@pytest.mark.parametrize("durability", ["sync", "relaxed"])
def test_what_was_answered_survives_a_power_cut(recorder, tmp_path, durability):
    events = record_run(recorder, WRITER, tmp_path / "run", durability)
    begun = next(at for at, (_, name, _, _) in enumerate(events) if name == "said")
    chance = random.Random(9)
    lost = 0
    for number in range(CUTS):
        end = chance.randrange(begun + 1, len(events) + 1)
        said = cut(tear(events[:end], chance), chance, tmp_path / f"cut{number}")
        with FifoStore(tmp_path / f"cut{number}") as store:
            numbers = [int(value.split()[0]) for value in store]
            added = store.mark("next") or 0
        taken = added - len(numbers)
        assert numbers == list(range(taken, added)), "in order, up to the mark"
        answered_taken, answered_added = said[-1]
        if durability == "sync":
            assert taken >= answered_taken and added >= answered_added
        else:
            assert (taken, added) in [(0, 0), *said] or taken > answered_taken or added > answered_added
            assert 16 * (answered_added - added) <= JOURNAL_BYTES, "no more is lost than the journal holds"
            lost += answered_added > added
    assert lost or durability == "sync", "the cuts were hard enough to take something back"
