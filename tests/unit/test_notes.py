"""The notes of consumers' changes: what of them is found when a store is opened again, and when LMDB takes over."""

import os
import shutil
import threading
from queue import SimpleQueue

import gevent
import lmdb
import pytest

from tests.store_tools import DEADLINE_S, EVERYTHING, Stores
from zstreampub.disk.journal import BLOCK_BYTES, FILE_BYTES, GROUND_BYTES
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append
from zstreampub.stores import writer
from zstreampub.stores.notes import NAME, Notes

GROUND = b"g" * GROUND_BYTES


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens the notes as another start of the store would."""
    made = []

    def opened(ground=GROUND, next=10, used=True):
        made.append(Notes(tmp_path, used))
        made[-1].find(ground, next)
        return made[-1]
    yield opened
    for one in made:
        one.close()


class TestTheNotes:
    def test_what_was_noted_is_found_and_more_can_follow(self, opened):
        one = opened()
        assert one.write([b"a", b"bb"])
        assert one.write([b"", b"c" * 10_000])
        two = opened()
        assert two.write([b"d"])

        three = opened()

        assert two.kept == (10, [b"a", b"bb", b"", b"c" * 10_000, b"d"])
        assert three.kept == two.kept

    def test_nothing_was_noted(self, opened, tmp_path):
        assert opened().kept == (10, [])
        assert not opened()
        assert os.listdir(tmp_path) == []

    def test_what_lmdb_has_taken_does_not_count_any_more(self, opened):
        one = opened()
        one.write([b"a", b"b"])
        one.write([b"c"])
        ground = one.draw_ground()
        assert opened().kept == (10, [b"a", b"b", b"c"])
        one.taken(13)
        one.write([b"d"])

        assert one.kept == (13, [b"d"])
        assert opened(ground, 13).kept == (13, [b"d"])
        assert opened().kept == (10, [])

    def test_what_is_not_used_finds_and_writes_none(self, opened):
        opened().write([b"a"])

        one = opened(used=False)

        assert not one.write([b"b"])
        assert one.kept == (10, [b"a"])


class Images(Stores):
    """Stores, and copies of their files as a crash would leave them."""

    def __init__(self, place):
        super().__init__("lmdb", place / "store")
        self._place = place
        self._count = 0

    def crashed(self, *files):
        """Open a copy of *files*; return the store and its follower."""
        self._count += 1
        copy = Stores("lmdb", self._place / f"copy{self._count}")
        copy.place.mkdir()
        for file in files:
            shutil.copy(self.place / file, copy.place / file)
        store, follower = copy.open()
        self._open.append(store)
        return store, follower


@pytest.fixture
def images(tmp_path):
    images = Images(tmp_path)
    yield images
    images.close_all()


def changes(store):
    return [change for _, change in store.journal()]


class TestTheStore:
    def test_what_was_noted_survives_a_crash_and_numbers_go_on(self, images):
        _, follower = images.open()
        follower.append(Batch.of("a", [1]), changes=[b"with"])
        for at in range(5):
            follower.append(changes=[b"%d" % at] * 2)

        store, follower = images.crashed("data.mdb", NAME)

        assert store.journal() == [(0, b"with"), *((1 + at, b"%d" % (at // 2)) for at in range(10))]
        assert store.stats()["journal"] == 11
        assert follower.append(changes=[b"next"]).journal_next == 12
        assert follower.append(Batch.of("a", [2]), changes=[b"more"]).journal_next == 13
        assert changes(store)[-2:] == [b"next", b"more"]

    def test_a_commit_takes_along_what_was_noted(self, images):
        store, follower = images.open()
        follower.append(changes=[b"x"])
        follower.append(changes=[b"y"])
        follower.publish("a", 1)
        follower.append(changes=[b"z"])
        alone, _ = images.crashed("data.mdb")

        assert (changes(alone), changes(store)) == ([b"x", b"y"], [b"x", b"y", b"z"])

    def test_a_full_file_is_begun_anew_and_nothing_is_lost(self, images):
        store, follower = images.open()
        for at in range(2 * FILE_BYTES // BLOCK_BYTES + 20):
            follower.append(changes=[b"%d" % at])
        copy, _ = images.crashed("data.mdb", NAME)

        assert changes(store) == [b"%d" % at for at in range(2 * FILE_BYTES // BLOCK_BYTES + 20)]
        assert copy.journal() == store.journal()

    def test_a_note_of_after_a_backup_does_not_count_when_only_lmdbs_file_is_put_back(self, images):
        _, follower = images.open()
        follower.publish("a", 1)
        shutil.copy(images.place / "data.mdb", images.place.parent / "backup")
        follower.publish("a", 2)
        follower.append(changes=[b"of the second"])
        shutil.copy(images.place / NAME, images.place.parent / NAME)

        images.place = images.place.parent
        os.rename(images.place / "backup", images.place / "data.mdb")
        store, _ = images.crashed("data.mdb", NAME)

        assert store.bounds() == (0, 1)
        assert changes(store) == []

    def test_nor_one_of_a_later_life(self, images):
        store, follower = images.open()
        images.close(store)
        shutil.copy(images.place / "data.mdb", images.place.parent / "backup")
        store, follower = images.open()
        follower.append(changes=[b"later"])
        shutil.copy(images.place / NAME, images.place.parent / NAME)
        images.close(store)
        os.rename(images.place.parent / "backup", images.place / "data.mdb")
        os.rename(images.place.parent / NAME, images.place / NAME)

        store, follower = images.open()

        assert changes(store) == []
        assert follower.append(changes=[b"x"]).journal_next == 1

    def test_a_store_that_knows_nothing_of_notes_is_opened_and_has_some(self, images):
        """As version 0.2.0 has left it."""
        store, follower = images.open()
        follower.append(changes=[b"x"])
        images.close(store)
        os.remove(images.place / NAME)
        with lmdb.open(str(images.place), max_dbs=20) as environment, environment.begin(write=True) as txn:
            assert txn.delete(b"notes", db=environment.open_db(b"meta", txn=txn))

        store, follower = images.open()
        assert changes(store) == [b"x"]
        follower.append(changes=[b"y"])

        assert changes(images.crashed("data.mdb", NAME)[0]) == [b"x", b"y"]
        assert changes(images.crashed("data.mdb")[0]) == [b"x"]

    def test_an_idle_store_has_lmdb_take_it(self, images, monkeypatch):
        monkeypatch.setattr(writer, "FOLD_S", 0.01)
        taken, take = threading.Event(), Notes.taken

        def take_and_tell(self, next):
            take(self, next)
            if next == 2:
                taken.set()
        monkeypatch.setattr(Notes, "taken", take_and_tell)
        _, follower = images.open()
        follower.append(changes=[b"x", b"y"])

        assert taken.wait(DEADLINE_S)
        assert changes(images.crashed("data.mdb")[0]) == [b"x", b"y"]

    def test_nothing_is_removed_before_lmdb_has_it(self, images, monkeypatch):
        entered, gate, write = SimpleQueue(), SimpleQueue(), Notes.write

        def write_later(self, *arguments):
            entered.put(True)
            gate.get()
            return write(self, *arguments)
        store, follower = images.open()
        follower.publish("a", 1)
        monkeypatch.setattr(Notes, "write", write_later)
        store.append(Append(changes=[b"x"]))
        entered.get()       # what comes now is taken together
        store.append(Append(changes=[b"y"]))
        trimming = gevent.spawn(store.trim, EVERYTHING, 1)
        gevent.sleep(0)
        gate.put(True)
        gate.put(True)

        assert trimming.get(timeout=DEADLINE_S) == 1
        assert changes(images.crashed("data.mdb")[0]) == [b"x", b"y"]

    def test_where_no_file_can_be_made_lmdb_has_it_at_once(self, images):
        _, follower = images.open()
        os.mkdir(images.place / NAME)
        assert follower.append(changes=[b"x"]).error is None

        store, _ = images.crashed("data.mdb")

        os.rmdir(images.place / NAME)
        assert changes(store) == [b"x"]

    def test_a_relaxed_store_notes_nothing_and_finds_what_another_has_noted(self, images):
        _, follower = images.open()
        follower.append(changes=[b"x"])
        copy = Stores("lmdb", images.place.parent / "relaxed")
        shutil.copytree(images.place, copy.place)
        store, follower = copy.open(Settings(durability="relaxed"))
        noted = (copy.place / NAME).read_bytes()
        follower.append(changes=[b"y"])

        assert changes(store) == [b"x", b"y"]
        assert (copy.place / NAME).read_bytes() == noted
        copy.close_all()
