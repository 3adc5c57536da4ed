"""Power cuts, imitated: a real run's writes are recorded, and replayed with some that were not synced left out.

At each cut a random half of the pages that were written but not synced is lost, and a note that is being written
is torn. What had been answered before the cut must be there under ``sync``; under ``relaxed`` all but the last commit.
"""

import random

import pytest

from tests.recorded_writes import record_run
from tests.store_tools import EVERYTHING, Stores, contents, read_all
from zstreampub.message import Batch
from zstreampub.settings import Settings

CUTS = 80
PAGE = 4096
SIZES = {"data.mdb": 21 << 20, "notes": 1 << 20}

WRITER = """
import os, sys
from tests.store_tools import Stores
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.stores import checkpoint, rows, writer
from zstreampub.topics import PatternSet
# Often, so that cuts meet them: segments, saved counters, trims, a store closed and opened again.
writer.SEGMENT_BATCHES = 8
checkpoint.EVERY_BATCHES = 5
rows.RECORD_BYTES = 100
stores = Stores("lmdb", sys.argv[1])
store, follower = stores.open(Settings(durability=sys.argv[2]))
said = os.open(sys.argv[1] + "/said", os.O_WRONLY | os.O_CREAT)
alone_said = os.open(sys.argv[1] + "/alone", os.O_WRONLY | os.O_CREAT)
for at in range(120):
    append = follower.append(Batch.of(f"t.{at % 3}", [at] * 3, keys=["k", None, None], ids=[str(at), None, None]),
                             Batch.of("u", [b"x" * 3000]), producer=b"p", sequence=at, changes=[b"%d" % at] * 2,
                             records={b"at": b"%d" % at, b"old": None, b"%d" % at: b"x" * 500}, journal_from=at)
    for _ in range(at % 4):
        follower.append(changes=[b"%d" % at])
    os.write(said, b"%d %d %d\\n" % (at, *append.firsts))
    for part in range(at % 3):
        alone = follower.append(Batch.of("alone", [[at, part]], keys=["k"], ids=["%d %d" % (at, part)]))
        os.write(alone_said, b"%d %d %d\\n" % (at, part, alone.firsts[0]))
    if at % 20 == 19:
        store.trim(PatternSet(["u"]), append.firsts[0] - 20)
    if at == 70:
        stores.close(store)
        store, follower = stores.open(Settings(durability=sys.argv[2]))
os._exit(0)
"""


def cut(events, chance, place):
    """Leave in *place* what a disk may hold if the power goes after *events*; return what was said of each kind."""
    place.mkdir()
    for file, size in SIZES.items():
        synced, loose = {}, []
        for at, (kind, name, offset, content) in enumerate(events):
            if name != file:
                continue
            if kind == "f":
                synced.update(loose)
                loose = []
                continue
            if file == "notes" and at == len(events) - 1:
                content = content[:chance.randrange(len(content))]
            pages = [(offset + at, content[at:at + PAGE]) for at in range(0, len(content), PAGE)]
            if kind == "s":
                synced.update(pages)
            else:
                loose += pages
        synced.update((page, content) for page, content in loose if chance.random() < 0.5)
        if synced:
            write(place / file, synced, size)
    return lines_of(events, "said"), lines_of(events, "alone")


def lines_of(events, file):
    said = b"".join(content for _, name, _, content in events if name == file)
    return [tuple(map(int, line.split())) for line in said.splitlines()]


def write(path, pages, size):
    with open(path, "wb") as file:
        for page, content in sorted(pages.items()):
            file.seek(page)
            file.write(content)
        file.truncate(size)     # which is synced when the file is made


def changes_up_to(newest, alone=True):
    """Return the changes of the appends up to number *newest*; *alone*: and those that came alone after it."""
    found = [number for number in range(newest + 1) for _ in range(2 + number % 4)]
    return found if alone or newest < 0 else found[:len(found) - newest % 4]


def check_what_goes_together(store, follower, found, said):
    """What one append carried is there, all of it or nothing, and what came alone after what was *said* is there."""
    newest = max((payload for payload in found.values() if isinstance(payload, int)), default=-1)
    records = dict(store.records(b""))
    assert int(records.pop(b"at", b"-1")) == newest
    assert sorted(map(int, records)) == list(range(newest + 1))
    journal = store.journal()
    before = journal[0][0] if journal else 0
    stored = [int(change) for _, change in journal]
    assert [number for number, _ in journal] == list(range(before, before + len(stored)))
    assert stored == changes_up_to(newest)[before:before + len(stored)]
    assert before + len(stored) >= max(len(changes_up_to(newest, alone=False)), len(changes_up_to(said)))
    for number in range(max(newest - 5, 0), newest + 1):
        repeat = follower.append(Batch.of(f"t.{number % 3}", [number], ids=[str(number)]))
        assert repeat.duplicate and found[repeat.firsts[0]] == number


def check_what_came_alone(follower, found, said):
    """Single publishes, which are noted: those *said* are there, and once."""
    for number, part, first in said:
        assert found[first] == [number, part]
    for number, part, first in said[-3:]:
        repeat = follower.append(Batch.of("alone", [0], ids=[f"{number} {part}"]))
        assert (repeat.firsts, repeat.duplicate) == ([first], True)


@pytest.mark.parametrize("durability", ["sync", "relaxed"])
def test_what_was_answered_survives_a_power_cut(recorder, tmp_path, durability):
    events = record_run(recorder, WRITER, tmp_path / "run", durability)
    begun = next(at for at, (_, name, _, _) in enumerate(events) if name == "said")
    chance = random.Random(60)
    lost = 0

    for number in range(CUTS):
        at = chance.randrange(begun, len(events))
        said, alone = cut(events[:at + 1], chance, tmp_path / str(number))
        stores = Stores("lmdb", tmp_path / str(number))
        store, follower = stores.open(Settings(durability=durability))
        store.check()
        found = {offset: payload for offset, _, payload in contents(read_all(store, trims=store.trim_mark())[0])}
        there = [number for number, first, _ in said if found.get(first) == number]
        missing = len(said) - len(there)
        lost += missing
        assert missing <= (durability == "relaxed")
        assert there == [number for number, _, _ in said][:len(there)], "only the last commit may be missing"
        check_what_came_alone(follower, found, alone if durability == "sync" else alone[:-1])
        check_what_goes_together(store, follower, found, said[-1][0] if said and durability == "sync" else -1)
        assert follower.publish("new", 1) > max(next for _, _, next in said), "no offset is given twice"
        assert store.topics(EVERYTHING)
        stores.close_all()

    assert lost or durability == "sync", "the cuts were too kind: this test would not see a loss"
