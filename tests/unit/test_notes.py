"""The notes of small publishes and changes: what is found when a store is opened again, and when LMDB takes over."""

import os
import shutil
import threading
from queue import SimpleQueue

import gevent
import lmdb
import pytest

from tests.store_tools import DEADLINE_S, EVERYTHING, PLENTY, Stores, contents, read_all
from zstreampub.disk.environment import Environment
from zstreampub.disk.journal import BLOCK_BYTES, FILE_BYTES, GROUND_BYTES
from zstreampub.errors import StoreCorrupt, StoreFull
from zstreampub.message import Batch
from zstreampub.settings import Retention, Settings
from zstreampub.store import Append
from zstreampub.stores import writer
from zstreampub.stores.notes import NAME, Notes
from zstreampub.stores.records import Tail
from zstreampub.topics import PatternSet

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

    def test_a_run_comes_before_its_changes(self, opened):
        one = opened()
        one.write([b"a"], (7, b"run"))
        one.write([], (9, b""))
        one.write([b"b"])

        two = opened()

        assert two.runs == one.runs == [(7, b"run"), (9, b"")]
        assert two.kept == one.kept == (10, [b"a", b"b"])
        two.taken(12)
        assert not two and two.runs == []

    def test_a_note_that_claims_a_longer_run_than_it_has_is_damaged(self, opened, monkeypatch):
        opened().write([b"a"], (7, b"run"))
        note = b"\xff" * 4 + b"\0" * 8 + b"\5\0\0\0runs"
        monkeypatch.setattr("zstreampub.disk.journal.Journal.replay", lambda *_: [note])

        with pytest.raises(StoreCorrupt, match="offset 0 is cut off"):
            opened()

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
        follower.publish("b", 2)    # a new topic is for LMDB
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
            meta = environment.open_db(b"meta", txn=txn)
            assert txn.delete(b"notes", db=meta)
            assert txn.replace(b"format", b"\0\0\0\2", db=meta) == b"\0\0\0\3", "which that version refuses"

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


def publish_alone(follower, at, **more):
    """Publish what is small enough to be noted."""
    return follower.append(Batch.of("a", [at], keys=[f"k{at % 3}"], ids=[str(at)]), producer=b"p", sequence=at,
                           changes=[b"%d" % at], **more)


class TestMessages:
    def test_a_publish_that_comes_alone_survives_a_crash_with_all_that_belongs_to_it(self, images):
        _, follower = images.open()
        for at in range(10):
            publish_alone(follower, at)
        alone, _ = images.crashed("data.mdb")

        store, follower = images.crashed("data.mdb", NAME)

        assert contents(read_all(alone)[0]) == [(0, "a", 0)], "LMDB has the first one, whose topic was new"
        assert contents(read_all(store)[0]) == [(at, "a", at) for at in range(10)]
        assert changes(store) == [b"%d" % at for at in range(10)]
        assert store.topics(EVERYTHING) == [{**store.topics(EVERYTHING)[0], "messages": 10, "next": 10}]
        assert follower.append(Batch.of("a", ["again"]), producer=b"p", sequence=7).firsts == [7]
        repeat = follower.append(Batch.of("a", ["again"], ids=["8"]))
        assert (repeat.firsts, repeat.duplicate) == ([8], True)
        assert publish_alone(follower, 10).firsts == [10]
        store.check()

    def test_it_survives_crash_after_crash(self, images):
        for life in range(4):
            store, follower = images.open() if life == 0 else images.crashed("data.mdb", NAME)
            images.place = images.place if life == 0 else images.place.parent / f"copy{life}"
            assert publish_alone(follower, 2 * life).firsts == [2 * life]
            assert publish_alone(follower, 2 * life + 1).firsts == [2 * life + 1]
            assert contents(read_all(store)[0]) == [(at, "a", at) for at in range(2 * life + 2)]
            publish = Batch.of("a", ["again"], ids=["0"])
            assert follower.append(publish).firsts == [0]

    @pytest.mark.parametrize("look, found", [
        (lambda store: contents(store.read(0, EVERYTHING, PLENTY, 10, 10_000, 0).batches), [(0, "a", 0), (1, "a", 1)]),
        (lambda store: contents([store.get(1)]), [(1, "a", 1)]),
        (lambda store: contents([store.last("a")]), [(1, "a", 1)]),
        (lambda store: contents([store.last("a", "k1")]), [(1, "a", 1)]),
        (lambda store: contents([store.last("a", "k0")]), [(0, "a", 0)]),
        (lambda store: contents(store.newest(EVERYTHING, 2)), [(1, "a", 1)]),
        (lambda store: store.offset_at(store.get(1).time_us), 1),
        (lambda store: store.offset_of_last(EVERYTHING, 1), 1),
        (lambda store: store.measure(PatternSet(["a"]), 1, 2).messages, 1),
    ])
    def test_a_reader_finds_what_was_noted(self, images, look, found):
        store, follower = images.open()
        publish_alone(follower, 0)
        publish_alone(follower, 1)

        assert look(store) == found

    def test_who_reads_what_lmdb_has_does_not_have_it_take_more(self, images):
        store, follower = images.open()
        publish_alone(follower, 0)
        publish_alone(follower, 1)
        assert contents(store.read(0, EVERYTHING, 1, 10, 10_000, 0).batches) == [(0, "a", 0)]
        assert contents([store.get(0)]) == [(0, "a", 0)]

        alone, _ = images.crashed("data.mdb")

        assert alone.bounds() == (0, 1)
        assert contents([store.last("a", "k1")]) == [(1, "a", 1)]
        assert images.crashed("data.mdb")[0].bounds() == (0, 2)

    def test_what_is_large_or_has_a_new_topic_is_for_lmdb(self, images):
        _, follower = images.open()
        follower.publish("a", 0)
        follower.publish("a", b"x" * (writer.NOTE_BYTES - 200))
        small, _ = images.crashed("data.mdb")
        follower.publish("a", b"x" * writer.NOTE_BYTES)
        large, _ = images.crashed("data.mdb")
        follower.publish("b", 0)

        assert [store.bounds()[1] for store in (small, large, images.crashed("data.mdb")[0])] == [1, 3, 4]

    def test_lmdb_takes_it_when_a_second_has_passed_though_there_is_always_more(self, images, monkeypatch):
        monkeypatch.setattr(writer, "FOLD_S", 1_000.0)
        store, follower = images.open()
        publish_alone(follower, 0)
        publish_alone(follower, 1)
        taken, take = threading.Event(), Notes.taken

        def take_and_tell(self, next):
            take(self, next)
            taken.set()
        monkeypatch.setattr(Notes, "taken", take_and_tell)
        store._writer._folded_at = -2_000.0

        publish_alone(follower, 2)

        assert taken.wait(DEADLINE_S)
        assert images.crashed("data.mdb")[0].bounds() == (0, 3)

    def test_it_can_be_removed_at_once(self, images):
        store, follower = images.open()
        for at in range(6):
            publish_alone(follower, at)

        assert store.trim(EVERYTHING, 5) == 5

        publish_alone(follower, 6)
        crashed, _ = images.crashed("data.mdb", NAME)
        assert contents(read_all(crashed, trims=crashed.trim_mark())[0]) == [(5, "a", 5), (6, "a", 6)]

    def test_a_store_that_was_closed_has_it_in_lmdb(self, images):
        store, follower = images.open()
        for at in range(5):
            publish_alone(follower, at)
        images.close(store)
        os.remove(images.place / NAME)

        store, _ = images.open()

        assert len(contents(read_all(store)[0])) == 5

    def test_where_there_is_no_room_for_all_that_can_be_noted_lmdb_has_it_at_once(self, images, monkeypatch):
        asked = []
        monkeypatch.setattr(Environment, "make_room", lambda _, room_bytes: asked.append(room_bytes))
        _, follower = images.open()
        publish_alone(follower, 0)
        publish_alone(follower, 1)

        assert images.crashed("data.mdb")[0].bounds() == (0, 2)
        assert asked == [writer.FOLD_ROOM_BYTES]

    def test_what_lmdb_refuses_to_take_stays_noted_and_who_reads_is_told(self, images, monkeypatch):
        store, follower = images.open()
        publish_alone(follower, 0)
        publish_alone(follower, 1)

        def full(*_):
            raise StoreFull("imagined")
        monkeypatch.setattr(Environment, "_write_once", full)
        with pytest.raises(StoreFull):
            store.get(1)
        assert contents([store.get(0)]) == [(0, "a", 0)]
        assert publish_alone(follower, 2).firsts == [2]
        crashed, _ = shutil.copytree(images.place, images.place.parent / "full"), monkeypatch.undo()

        assert contents([store.get(1)]) == [(1, "a", 1)]
        again, _ = Stores("lmdb", crashed).open()
        assert again.bounds() == (0, 3)
        again.close()

    def test_a_store_at_its_limit_takes_all_that_was_noted_and_goes_on_after_a_trim(self, images):
        store, follower = images.open(Settings(max_store_bytes=16 << 20))
        stored = []
        payload = os.urandom(3_000)
        with pytest.raises(StoreFull):
            while True:
                stored.append(follower.publish("a", payload))
        crashed, _ = images.crashed("data.mdb", NAME)
        assert crashed.bounds()[1] == store.bounds()[1] == len(stored)
        store.check()

        store.trim(EVERYTHING, len(stored) // 2)
        follower.publish("a", payload)

        assert store.get(len(stored)).first == len(stored)

    def test_what_other_processes_are_to_see_lmdb_has_before_it_is_told(self, images):
        store, follower = images.open()
        told = []
        publish_alone(follower, 0)
        publish_alone(follower, 1)
        store.show(lambda: told.append(images.crashed("data.mdb")[0].bounds()))
        assert images.crashed("data.mdb")[0].bounds() == (0, 2)

        publish_alone(follower, 2)

        assert told == [(0, 2), (0, 3)]

    @pytest.mark.parametrize("look, found", [
        (lambda store: (chunk := store.read(0, EVERYTHING, PLENTY, 10, 10_000, 0)) and (
            contents(chunk.batches), chunk.next), ([(0, "a", 0), (1, "a", 1)], 2)),
        (lambda store: contents(store.newest(EVERYTHING, PLENTY)), [(1, "a", 1)]),
        (lambda store: contents([store.last("a")]), [(1, "a", 1)]),
        (lambda store: store.offset_at(1 << 62), 2),
        (lambda store: store.offset_of_last(EVERYTHING, 2), 1),
        (lambda store: store.measure(EVERYTHING, 0, PLENTY).messages, 2),
    ])
    def test_what_is_noted_while_a_reader_is_on_its_way_is_not_passed_over(self, images, monkeypatch, look, found):
        store, follower = images.open()
        publish_alone(follower, 0)
        publish_alone(follower, 1)
        in_thread = store._in_thread

        def after_one_more(*arguments):
            monkeypatch.undo()
            publish_alone(follower, 2)
            return in_thread(*arguments)
        monkeypatch.setattr(store, "_in_thread", after_one_more)

        assert look(store) == found
        assert len(contents(read_all(store)[0])) == 3

    def test_the_newest_is_found_while_it_is_being_counted(self, images, monkeypatch):
        store, follower = images.open()
        publish_alone(follower, 0)
        entered, gate, add = SimpleQueue(), SimpleQueue(), Tail.add

        def add_slowly(self, *arguments):
            add(self, *arguments)
            entered.put(True)
            gate.get()
        monkeypatch.setattr(Tail, "add", add_slowly)
        store.append(Append([Batch.of("a", [1], keys=["k1"])]))
        entered.get()
        threading.Timer(0.05, gate.put, (True,)).start()

        found = store.last("a", "k1")

        follower.wait(lambda: len(follower.appends) == 2)
        assert contents([found]) == [(1, "a", 1)]

    def test_while_lmdb_takes_nothing_trims_are_refused_and_nothing_is_tried_all_the_time(self, images, monkeypatch):
        store, follower = images.open(Settings(retention=(Retention(">", max_messages=1),), retention_interval_s=1_000))
        publish_alone(follower, 0)

        def full(*_):
            raise StoreFull("imagined")
        monkeypatch.setattr(Environment, "_write_once", full)
        for at in range(1, 10):
            publish_alone(follower, at)
        with gevent.Timeout(DEADLINE_S), pytest.raises(StoreFull):
            store.trim(EVERYTHING, 5)
        assert not store._writer.keeper.busy()
        monkeypatch.undo()

        assert store.trim(EVERYTHING, 9) > 0
        assert contents([store.last("a")]) == [(9, "a", 9)]
