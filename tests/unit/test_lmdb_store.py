"""What a store on disk promises beyond the contract: reopening, its lock, its refusals, its threads."""

import os
import subprocess
import sys
import textwrap

import gevent
import lmdb
import pytest

from tests.store_tools import DEADLINE_S, EVERYTHING, PLENTY, Stores, contents, read_all
from zstreampub.disk import environment, snapshots
from zstreampub.disk.snapshots import READ_THREADS
from zstreampub.errors import StoreClosed, StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreVersion
from zstreampub.message import Batch
from zstreampub.settings import Settings
from zstreampub.store import Append
from zstreampub.stores import measuring, open_store, reading, rows
from zstreampub.stores.checkpoint import RELAXED_SKIP
from zstreampub.topics import PatternSet


@pytest.fixture
def stores(tmp_path):
    stores = Stores("lmdb", tmp_path / "store")
    yield stores
    stores.close_all()


def run_python(source, *arguments):
    """Run *source* in a Python of its own and return what it printed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
                          capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestReopening:
    def test_everything_is_there_again(self, stores):
        store, follower = stores.open()
        for at in range(30):
            follower.publish(f"t.{at % 4}", at, keys=[f"k{at % 3}"])
        store.trim(PatternSet(["t.1"]), 10)
        before = self.picture(store)
        stores.close(store)

        store, _ = stores.open()

        assert self.picture(store) == before
        assert contents([store.last("t.3", "k0")]) == [(27, "t.3", 27)]

    def test_a_store_whose_maker_died_before_it_wrote_anything_is_made_now(self, stores, monkeypatch):
        def dies(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(environment.Environment, "write", dies)
            stores.open()

        store, follower = stores.open()

        assert (follower.publish("a", 1), store.bounds()[0]) == (0, 0)

    def picture(self, store):
        return (store.epoch, store.bounds(), store.trim_mark(), store.topics(EVERYTHING),
                contents(read_all(store, trims=store.trim_mark())[0]))

    def test_offsets_go_on(self, stores):
        store, follower = stores.open()
        follower.publish("a", 1, 2)
        store.trim(EVERYTHING, PLENTY)
        stores.close(store)

        _, follower = stores.open()

        assert follower.publish("a", 3) == 2

    def test_a_retry_is_known_after_reopening(self, stores):
        store, follower = stores.open()
        original = follower.append(Batch.of("a", [1]), Batch.of("b", [2]), producer=b"p", sequence=3)
        stores.close(store)

        store, follower = stores.open()
        retry = follower.append(Batch.of("a", [1]), Batch.of("b", [2]), producer=b"p", sequence=3)

        assert retry.duplicate and retry.firsts == original.firsts

    def test_journal_and_records_are_there_again_and_numbers_go_on(self, stores):
        for at in range(4):
            store, follower = stores.open()
            follower.append(changes=[b"%d" % at] * 2, records={b"%d" % at: b"", b"k": b"%d" % at})
            follower.append(changes=[b"only"], producer=b"p", sequence=at)
            stores.close(store)

        store, follower = stores.open()

        assert [number for number, _ in store.journal()] == list(range(12))
        assert store.journal()[-2:] == [(10, b"3"), (11, b"only")]
        assert store.records(b"") == [*((b"%d" % at, b"") for at in range(4)), (b"k", b"3")]
        assert follower.append(changes=[b"only"], producer=b"p", sequence=3).duplicate
        assert follower.append(changes=[b"next"], journal_from=12).journal_next == 13

    def test_a_journal_of_which_all_is_forgotten_does_not_begin_anew(self, stores):
        store, follower = stores.open()
        follower.append(changes=[b"x" * 5_000])
        follower.append(changes=[b"y"], journal_from=1)
        follower.append(journal_from=2)
        stores.close(store)

        store, follower = stores.open()

        assert follower.append(changes=[b"z"], journal_from=2).journal_next == 3
        assert store.journal()[-1] == (2, b"z")

    @pytest.mark.parametrize("most", [1, 3, 1_000])
    def test_ids_are_known_after_reopening_as_far_as_before(self, stores, most, monkeypatch):
        monkeypatch.setattr(rows, "RECORD_BYTES", 100)
        store, follower = stores.open(Settings(id_window_messages=most))
        for at in range(0, 40, 2):
            follower.publish("a", at, at + 1, ids=[f"{at}", f"{at + 1}"])
        stores.close(store)

        store, follower = stores.open(Settings(id_window_messages=most))
        firsts = [follower.publish("a", at, ids=[f"{at}"]) for at in range(39, -1, -1)]

        assert firsts == [*range(39, 40 - min(most, 40) - 1, -1), *range(40, 80 - min(most, 40))]

    @pytest.mark.parametrize("durability", ["sync", "relaxed"])
    def test_what_was_not_closed_is_counted_on_from_the_log(self, stores, durability):
        child = """
            import os, sys
            from tests.store_tools import Stores, EVERYTHING
            from zstreampub.settings import Settings
            from zstreampub.topics import PatternSet
            from zstreampub.message import Batch
            store, follower = Stores("lmdb", sys.argv[1]).open(Settings(durability=sys.argv[2]))
            for at in range(40):
                follower.append(Batch.of(f"t.{at % 4}", [at], keys=["k"]), producer=b"p", sequence=at)
                if at % 10 == 9:
                    store.trim(PatternSet([f"t.{at // 10}"]), at)
            print([(topic["topic"], topic["messages"], topic["bytes"]) for topic in store.topics(EVERYTHING)])
            sys.stdout.flush()
            os._exit(0)
        """
        said = run_python(child, stores.place, durability)

        store, follower = stores.open()

        store.check()
        assert str([(topic["topic"], topic["messages"], topic["bytes"]) for topic in store.topics(EVERYTHING)]) == said
        assert follower.append(Batch.of("t.3", [39]), producer=b"p", sequence=39).firsts == [39]
        assert follower.publish("a", "next") == (40 if durability == "sync" else 40 + RELAXED_SKIP)

    def test_a_relaxed_store_that_was_closed_leaves_out_nothing(self, stores):
        store, follower = stores.open(Settings(durability="relaxed"))
        follower.publish("a", 1)
        stores.close(store)

        _, follower = stores.open(Settings(durability="relaxed"))

        assert follower.publish("a", 2) == 1


class TestOnlyOneMayOpenIt:
    def test_not_the_same_process_again(self, stores):
        stores.open()

        with pytest.raises(StoreLocked) as caught:
            open_store(stores.url)

        assert caught.value.pid == os.getpid()

    def test_not_another_process(self, stores):
        stores.open()
        child = """
            import sys
            from zstreampub.errors import StoreLocked
            from zstreampub.stores import open_store
            try:
                open_store(sys.argv[1])
            except StoreLocked as error:
                print(error.pid)
        """

        assert run_python(child, stores.url) == str(os.getpid())

    def test_a_closed_one_is_free(self, stores):
        store, _ = stores.open()
        stores.close(store)

        store, _ = stores.open()

        assert store.bounds() == (0, 0)

    def test_a_forked_child_may_not_use_it_nor_keep_it_locked(self, stores):
        child = """
            import os, signal, sys
            from tests.store_tools import Stores
            from zstreampub.errors import StoreClosed
            from zstreampub.message import Batch
            from zstreampub.store import Append
            stores = Stores("lmdb", sys.argv[1])
            store, follower = stores.open()
            follower.publish("a", 1)
            ready, go = os.pipe()
            pid = os.fork()
            if pid == 0:
                for call in (lambda: store.append(Append([Batch.of("a", [2])])), lambda: store.get(0)):
                    try:
                        call()
                    except StoreClosed:
                        os.write(go, b"r")
                signal.pause()
            assert os.read(ready, 1) + os.read(ready, 1) == b"rr"
            follower.publish("a", 3)
            stores.close(store)
            store, _ = stores.open()
            os.kill(pid, signal.SIGKILL)
            print(store.bounds())
        """

        assert run_python(child, stores.place) == "(0, 2)"


class TestWhatIsNoStore:
    def refused(self, error, url, sentence):
        with pytest.raises(error) as caught:
            open_store(url)
        assert type(caught.value) is error
        assert sentence in str(caught.value)

    def test_a_file(self, tmp_path):
        (tmp_path / "file").write_text("x")

        self.refused(StoreError, f"lmdb:{tmp_path}/file", "is a file")
        self.refused(StoreError, f"lmdb:{tmp_path}/file/below", "below a file")

    def test_a_directory_with_other_things_in_it(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("x")

        self.refused(StoreVersion, f"lmdb:{tmp_path}", "thesis.txt")

        assert os.listdir(tmp_path) == ["thesis.txt"]

    def test_garbage(self, tmp_path):
        (tmp_path / "data.mdb").write_bytes(b"garbage" * 5_000)

        self.refused(StoreCorrupt, f"lmdb:{tmp_path}", "does not begin like one")

        assert (tmp_path / "data.mdb").read_bytes() == b"garbage" * 5_000

    @pytest.mark.parametrize("size", [30, 4_096, 8_192, 100_000])
    def test_a_store_that_was_cut_off(self, stores, size):
        store, follower = stores.open()
        for _ in range(50):
            follower.publish("a", b"x" * 10_000)
        stores.close(store)
        os.truncate(stores.place / "data.mdb", size)

        with pytest.raises((StoreCorrupt, StoreVersion)):
            open_store(stores.url)

    def test_a_store_of_lmdb_1_0(self, tmp_path):
        lmdb.open(str(tmp_path), lib_version=1).close()

        self.refused(StoreVersion, f"lmdb:{tmp_path}", "another LMDB")

    def test_an_lmdb_file_of_another_program(self, tmp_path):
        with lmdb.open(str(tmp_path), lib_version=0) as other, other.begin(write=True) as txn:
            txn.put(b"their", b"data")

        self.refused(StoreVersion, f"lmdb:{tmp_path}", "not a zstreampub store")

        with lmdb.open(str(tmp_path), lib_version=0) as other, other.begin() as txn:
            assert [key for key, _ in txn.cursor()] == [b"their"]

    def test_another_format(self, stores):
        store, _ = stores.open()
        stores.close(store)
        self.put(stores, b"format", b"\0\0\0\x63")

        self.refused(StoreVersion, stores.url, "format")

    def test_a_record_that_makes_no_sense(self, stores):
        store, _ = stores.open()
        stores.close(store)
        self.put(stores, b"state", b"short")

        self.refused(StoreCorrupt, stores.url, "backup")

    def put(self, stores, key, value):
        with lmdb.open(str(stores.place), lib_version=0, max_dbs=9) as env, env.begin(write=True) as txn:
            txn.put(key, value, db=env.open_db(b"meta", txn=txn))

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
    def test_a_directory_that_may_not_be_written(self, tmp_path):
        tmp_path.chmod(0o500)

        self.refused(StoreError, f"lmdb:{tmp_path}", "write permission")

    def test_a_refused_directory_is_not_left_locked(self, tmp_path):
        (tmp_path / "data.mdb").write_bytes(b"garbage" * 5_000)
        for _ in range(2):
            self.refused(StoreCorrupt, f"lmdb:{tmp_path}", "does not begin like one")


class TestItsThreads:
    def test_the_hub_runs_on_while_a_commit_is_at_the_disk(self, stores, monkeypatch):
        store, follower = stores.open()
        gate, passed = snapshots._SimpleQueue(), []
        write_once = environment.Environment._write_once

        def slow(self, work):
            gate.get()
            return write_once(self, work)
        monkeypatch.setattr(environment.Environment, "_write_once", slow)

        store.append(Append([Batch.of("a", [1])]))
        with gevent.Timeout(DEADLINE_S):
            gevent.spawn(passed.append, "hub").join()
            assert store.read(0, EVERYTHING, PLENTY, 1, 1, 0).batches == []
        assert not follower.appends
        gate.put(True)
        follower.wait(lambda: follower.appends)
        monkeypatch.undo()

        assert passed == ["hub"]

    def test_what_comes_while_a_commit_is_at_the_disk_is_the_next_group(self, stores, monkeypatch):
        store, follower = stores.open()
        gate, entered = snapshots._SimpleQueue(), snapshots._SimpleQueue()
        write_once = environment.Environment._write_once

        def slow(self, work):
            entered.put(True)
            gate.get()
            return write_once(self, work)
        monkeypatch.setattr(environment.Environment, "_write_once", slow)

        store.append(Append([Batch.of("a", [0])]))
        entered.get()
        for at in range(1, 100):
            store.append(Append([Batch.of("a", [at])]))
        for _ in range(2):
            gate.put(True)
        follower.wait(lambda: len(follower.appends) == 100)
        monkeypatch.undo()

        assert store.stats()["commits"] == 2

    def test_a_writer_that_dies_refuses_everything_and_says_so(self, stores, monkeypatch):
        store, follower = stores.open()
        follower.publish("a", 1)

        def broken(*_):
            raise RuntimeError("imagined")
        monkeypatch.setattr("zstreampub.stores.writer.Group", broken)
        appends = follower.append_all([Append([Batch.of("a", [at])]) for at in range(5)])
        later = follower.append(Batch.of("a", [9]))

        follower.wait(lambda: follower.died)
        assert {type(append.error) for append in (*appends, later)} == {StoreError}
        assert "imagined" in str(follower.died)
        assert contents(read_all(store)[0]) == [(0, "a", 1)]
        with pytest.raises(StoreError):
            store.trim(EVERYTHING, 1)

    def test_a_commit_that_fails_leaves_no_trace(self, stores, monkeypatch):
        store, follower = stores.open(Settings(max_topics=3))
        follower.append(Batch.of("a", [1]), producer=b"p", sequence=0)
        write_once = environment.Environment._write_once

        def full(self, work):
            write_once(self, lambda txn, db: (work(txn, db), txn.put(b"x" * 600, b"")))
        monkeypatch.setattr(environment.Environment, "_write_once", full)
        monkeypatch.setattr(environment, "translated", lambda error: StoreFull("imagined"))
        failed = follower.append_all([Append([Batch.of("b", [2]), Batch.of("c", [2])], producer=b"p", sequence=1)
                                      for _ in range(2)])
        monkeypatch.undo()

        assert [type(append.error) for append in failed] == [StoreFull, StoreFull]
        again = follower.append(Batch.of("c", [2]), producer=b"p", sequence=1)
        assert again.firsts == [1] and not again.duplicate
        assert [topic["topic"] for topic in store.topics(EVERYTHING)] == ["a", "c"]

    @pytest.mark.parametrize("light_goes_through", [True, False])
    def test_who_relied_on_others_of_a_failed_group_fails_with_them(self, stores, monkeypatch, light_goes_through):
        store, follower = stores.open()
        follower.append(Batch.of("a", [0], ids=["known"]))
        gate, entered = snapshots._SimpleQueue(), snapshots._SimpleQueue()
        write_once = environment.Environment._write_once

        def write(self, work):
            entered.put(True)
            if not gate.get():
                raise StoreFull("imagined")
            return write_once(self, work)
        monkeypatch.setattr(environment.Environment, "_write_once", write)
        before = Append([Batch.of("a", [1])])
        store.append(before)
        entered.get()       # what comes now is one group
        heavy = [Append([Batch.of("b", [2], ids=["x"])], changes=[b"b"]),
                 Append([Batch.of("b", [2], ids=["x"])]),               # repeats what is not stored yet
                 Append([Batch.of("b", [2, 3], ids=["x", "y"])]),       # in part
                 Append([Batch.of("b", [2])], expected_next={"b": 0}),  # is behind it
                 Append([Batch.of("b", [2])], expected_next={"b": 3})]
        known = Append([Batch.of("a", [0], ids=["known"])])
        light = [Append(changes=[b"c"], records={b"k": b"v"}, producer=b"p", sequence=1) for _ in range(2)]
        for append in (*heavy, known, *light):
            store.append(append)
        for outcome in (True, False, light_goes_through):
            gate.put(outcome)
        follower.wait(lambda: len(follower.appends) == 10)
        monkeypatch.undo()

        assert [type(append.error) for append in heavy] == [StoreFull] * 5
        assert (known.firsts, known.duplicate) == ([0], True)
        told = [(type(append.error), append.duplicate, append.journal_next) for append in light]
        if light_goes_through:
            assert told == [(type(None), False, 1), (type(None), True, None)]
        else:
            assert told == [(StoreFull, False, None)] * 2
        assert [change for _, change in store.journal()] == [b"c"] * light_goes_through
        assert [key for key, _ in store.records(b"")] == [b"k"] * light_goes_through
        again = follower.append(Batch.of("b", [2], ids=["x"]), expected_next={"b": 0})
        assert again.firsts == [2] and not again.duplicate
        assert follower.append(changes=[b"c"], producer=b"p", sequence=1).duplicate == light_goes_through

    @pytest.mark.parametrize("patched", [True, False])
    def test_it_works_in_a_process_that_is_patched_and_in_one_that_is_not(self, stores, patched):
        child = """
            import sys
            if sys.argv[2] == "True":
                from gevent import monkey; monkey.patch_all()
            import gevent
            from tests.store_tools import Stores, EVERYTHING, read_all
            from zstreampub.message import Batch
            from zstreampub.settings import Retention, Settings
            stores = Stores("lmdb", sys.argv[1])
            rules = (Retention("c", max_messages=1),)
            store, follower = stores.open(Settings(max_store_bytes=1 << 28, retention=rules))
            ticks = []
            def tick():
                while True:
                    ticks.append(1)
                    gevent.sleep(0.001)
            ticking = gevent.spawn(tick)
            for at in range(60):
                follower.publish("a", b"x" * 1_000_000)
            assert len(ticks) > 5, ticks
            ticking.kill()
            assert sum(batch.count for batch in read_all(store)[0]) == 60
            assert store.trim(EVERYTHING, 50) == 50
            stores.close(store)
            store, follower = stores.open()
            print(store.bounds())
            stores.close(store)
        """

        assert run_python(child, stores.place, patched) == "(50, 60)"

    def test_an_idle_store_does_not_keep_the_hub_running(self, stores):
        child = """
            import sys, gevent
            from tests.store_tools import Stores
            stores = Stores("lmdb", sys.argv[1])
            store, follower = stores.open()
            follower.publish("a", 1)
            gevent.wait(timeout=30)
            print("left")
        """

        assert run_python(child, stores.place) == "left"


class TestMeasuring:
    @pytest.mark.parametrize("steps", [1, 500])
    def test_it_counts_across_segments_runs_and_trims(self, stores, monkeypatch, steps):
        monkeypatch.setattr("zstreampub.stores.writer.SEGMENT_BATCHES", 10)
        monkeypatch.setattr("zstreampub.stores.writer.RUN_BATCHES", 3)
        monkeypatch.setattr(measuring, "STEP_RUNS", steps)
        store, follower = stores.open()
        for at in range(20):
            follower.append_all([Append([Batch.of(f"t.{(at + n) % 5}", [b"x" * at] * 2)]) for n in range(7)])
        store.trim(PatternSet(["t.1"]), 100)
        store.trim(PatternSet(["t.2"]), 31)

        for wanted in (EVERYTHING, PatternSet(["t.0"]), PatternSet(["t.1", "t.2"]), PatternSet(["t.2", "t.3", "none"])):
            kept = [message for batch in read_all(store, wanted, trims=store.trim_mark())[0]
                    for message in batch.singles(range(batch.count))]
            for first in (0, 17, 60, 99, 100, 101, 200, 280):
                for next in (18, 62, 140, 279, 280, 999):
                    there = [message for message in kept if first <= message.first < next]
                    found = store.measure(wanted, first, next)
                    assert found.messages == len(there)
                    assert found.oldest_us == (there[0].time_us if there else None)
                    assert (found.bytes > 0) == bool(there)

    def test_it_is_exact_while_others_append_and_trim(self, stores):
        store, follower = stores.open()
        size = Batch.of("t.0", [b"x"]).size
        going = True

        def go_on():
            while going:
                follower.append_all([Append([Batch.of(f"t.{at % 9}", [b"x"])]) for at in range(50)])
                end = store.bounds()[1]
                if end % 100 == 0:
                    store.trim(PatternSet([f"t.{end // 100 % 9}"]), end - 500)

        other = gevent.spawn(go_on)
        try:
            for _ in range(300):
                first, end = store.bounds()
                counted = store.measure(EVERYTHING, first, end)
                assert counted.bytes == counted.messages * size
                newest = store.measure(EVERYTHING, max(0, end - 300), end)
                assert newest.messages == min(end, 300)
        finally:
            going = False
            other.join()


class TestItsSize:
    def test_the_map_grows_while_readers_read(self, stores, monkeypatch):
        monkeypatch.setattr(environment, "FIRST_MAP_BYTES", 1 << 18)
        store, follower = stores.open()
        reading = [gevent.spawn(self.read_on, store) for _ in range(8)]

        for _ in range(40):
            follower.append(Batch.of("a", [b"x" * 100_000] * 4))
        with gevent.Timeout(DEADLINE_S):
            assert [greenlet.get() for greenlet in reading] == [160] * 8

        assert store.stats()["map_bytes"] >= 16 << 20

    def read_on(self, store):
        cursor = count = 0
        while count < 160:
            chunk = store.read(cursor, EVERYTHING, PLENTY, PLENTY, 1 << 20, 0)
            count += sum(batch.count for batch in chunk.batches)
            cursor = chunk.next
        return count

    def test_trimming_frees_what_appending_uses(self, stores):
        store, follower = stores.open()

        for _ in range(60):
            follower.append(Batch.of("a", [b"x" * 100_000] * 5))
            store.trim(EVERYTHING, store.bounds()[1])

        assert store.stats()["used_bytes"] < 8 << 20

    def test_readers_free_their_slots(self, stores):
        store, follower = stores.open()
        follower.publish("a", 1)

        with gevent.Timeout(DEADLINE_S):
            gevent.joinall([gevent.spawn(store.get, 0) for _ in range(2_000)], raise_error=True)

        assert store.stats()["readers"] < 16


def test_a_closed_store_is_closed_for_those_who_wait_at_its_door(stores):
    store, follower = stores.open()
    follower.publish("a", 1)
    late = [gevent.spawn(store.get, 0) for _ in range(50)]

    gevent.sleep(0)
    stores.close(store)
    with gevent.Timeout(DEADLINE_S):
        gevent.joinall(late)

    assert all(greenlet.successful() or isinstance(greenlet.exception, StoreClosed) for greenlet in late)




class TestBesideOthers:
    def test_a_long_search_takes_a_turn_with_the_reader_threads_for_each_step(self, stores, monkeypatch):
        monkeypatch.setattr(reading, "STEP_RUNS", 2)
        store, follower = stores.open()
        for at in range(20):
            follower.publish("a", at)
        turns, in_thread = [], store._in_thread

        def counted(*work):
            turns.append(work)
            return in_thread(*work)

        monkeypatch.setattr(store, "_in_thread", counted)

        assert store.offset_of_last(EVERYTHING, 1000) == 0
        assert len(turns) >= 10

    def test_the_counters_are_not_read_while_the_map_changes(self, stores):
        store, _ = stores.open()
        tokens = [store._environment._tokens.get() for _ in range(READ_THREADS)]

        stats = gevent.spawn(store.stats)
        store._readers.apply(lambda: None)      # the reader threads have begun with what was asked before
        assert not stats.ready()
        for token in tokens:
            store._environment._tokens.put(token)

        assert stats.get(timeout=DEADLINE_S)["map_bytes"]


def test_the_names_of_a_new_store_are_on_disk_before_an_offset_is_given_out(tmp_path, monkeypatch):
    synced = set()
    fsync = os.fsync

    def noted(fd):
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)

    open_store(f"lmdb:{tmp_path}/new/below/store").close()

    assert synced >= {str(tmp_path / place) for place in ("", "new", "new/below", "new/below/store")}
