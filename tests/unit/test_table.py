"""A topic seen as a mapping: what PDict's documentation shows, and what a table promises besides."""

import threading

import gevent
import pytest

from zstreampub import Broker, Retention, Settings
from zstreampub.errors import InvalidPayload, RequestTimeout, SlowConsumer, StoreClosed, StoreCorrupt
from zstreampub.message import Batch
from zstreampub.store import Append, Gap
from zstreampub.topics import PatternSet
from zstreampub.views.ports import Port
from zstreampub.views.table import Table

TOPIC = "table.prices"
SETTINGS = Settings(retention=(Retention("table.>", newest_per_key=True),), retention_interval_s=0.01)


@pytest.fixture(params=["memory", "lmdb"])
def broker(request, tmp_path):
    with Broker.open("memory:" if request.param == "memory" else f"lmdb:{tmp_path}/log", SETTINGS) as broker:
        yield broker
        broker.store.check()


@pytest.fixture
def table(broker):
    with Table(Port(broker), TOPIC) as table:
        yield table


def again(broker):
    """Return another table on the same topic."""
    return Table(Port(broker), TOPIC)


# --- as PDict ---------------------------------------------------------------------------------


def test_what_is_set_can_be_got_counted_and_deleted(table):
    table["key1"] = 123
    table["key2"] = 321

    assert table["key1"] == 123
    assert len(table) == 2
    del table["key1"]
    with pytest.raises(KeyError):
        table["key1"]


def test_a_key_that_is_not_there_is_a_key_error_and_get_has_a_default(table):
    assert "key" not in table
    assert table.get("key") is None and table.get("key", 5) == 5
    with pytest.raises(KeyError):
        del table["key"]


def test_what_is_set_again_has_its_new_value_and_counts_once(table):
    table["key"] = 1
    table["key"] = {"now": [2]}

    assert table["key"] == {"now": [2]} and len(table) == 1


def test_a_table_that_is_opened_again_has_everything(broker, table):
    table.update({f"k{n}": n for n in range(100)})
    del table["k7"]
    table.close()

    with again(broker) as later:
        assert dict(later) == {f"k{n}": n for n in range(100) if n != 7}


# --- as a mapping -----------------------------------------------------------------------------


def test_keys_values_and_items_are_those_of_the_moment(table):
    table.update(a=1, b=2)
    keys = iter(table)
    values, items = table.values(), table.items()

    table["c"] = 3

    assert sorted(keys) == ["a", "b"] and sorted(values) == [1, 2] and sorted(items) == [("a", 1), ("b", 2)]
    assert table == {"a": 1, "b": 2, "c": 3}


def test_many_keys_are_written_in_batches_and_all_can_be_deleted(table):
    table.update({f"k{n}": n for n in range(2500)})

    assert len(table) == 2500
    table.clear()
    assert len(table) == 0 and dict(table) == {}


def test_keys_may_be_bytes_and_are_not_the_same_as_text(table):
    table[b"k"] = "bytes"
    table["k"] = "text"

    assert (table[b"k"], table["k"]) == ("bytes", "text")


@pytest.mark.parametrize("key", [1, None, ("a",), "", "k" * 256])
def test_what_cannot_be_a_key_is_refused(table, key):
    with pytest.raises(InvalidPayload):
        table[key] = 1
    assert len(table) == 0


@pytest.mark.parametrize("value", [None, object(), {1: 2}])
def test_what_cannot_be_a_value_is_refused_before_anything_is_stored(table, value):
    with pytest.raises(InvalidPayload):
        table.update({"a": 1, "b": value})
    assert len(table) == 0


def test_messages_without_a_key_are_passed_over(broker, table):
    broker.publish(TOPIC, "no key")
    table["a"] = 1

    assert dict(table) == {"a": 1}


def test_falsy_values_are_values(table):
    table.update(zero=0, no=False, empty="", nothing=[])

    assert dict(table) == {"zero": 0, "no": False, "empty": "", "nothing": []}


def test_a_closed_table_says_so(table):
    table["a"] = 1
    table.close()

    for use in (lambda: table["a"], lambda: len(table), lambda: table.update(b=2), lambda: table.watch()):
        with pytest.raises(StoreClosed):
            use()


# --- several tables on one topic -----------------------------------------------------------------


def test_who_writes_reads_it_at_once_and_another_table_soon(broker, table):
    with again(broker) as other, other.watch() as changes:
        table["a"] = 1
        assert table["a"] == 1

        assert changes.get(10)[:2] == ("a", 1)
        assert other["a"] == 1


def test_of_many_that_compare_and_set_one_wins_each_time(broker, table):
    table["count"] = 0

    def count():
        with again(broker) as mine:
            for _ in range(20):
                while not mine.compare_and_set("count", mine["count"] + 1, mine.offset("count")):
                    pass

    gevent.joinall([gevent.spawn(count) for _ in range(4)], raise_error=True)

    assert table.compare_and_set("count", 81, table.offset("count"))
    assert table["count"] == 81


def test_compare_and_set_is_about_one_key_whatever_happens_to_the_others(broker, table):
    table["a"] = 1
    offset = table.offset("a")
    with again(broker) as other:
        other["b"] = 1

        assert table.compare_and_set("a", 2, offset)
        assert not other.compare_and_set("a", 3, offset)
        assert (other["a"], table["a"], table.offset("b")) == (2, 2, other.offset("b"))


def test_compare_and_set_takes_none_for_not_there_and_can_delete(table):
    assert table.offset("a") is None
    assert table.compare_and_set("a", 1, None) and not table.compare_and_set("a", 2, None)
    assert table.compare_and_set("a", None, table.offset("a"))
    assert "a" not in table


def test_compare_and_set_goes_on_when_the_newest_messages_are_gone(broker, table):
    table["a"] = 1
    del table["a"]
    broker.store.trim(PatternSet([TOPIC]), broker.next)

    with again(broker) as later:
        assert later.compare_and_set("a", 2, None)
        assert later["a"] == 2


def test_setdefault_sets_once(broker, table):
    with again(broker) as other:
        assert (table.setdefault("a", 1), other.setdefault("a", 2), table["a"]) == (1, 1, 1)


# --- watching --------------------------------------------------------------------------------------


def test_a_watch_tells_what_was_set_changed_and_deleted(table):
    table["before"] = 0
    with table.watch() as changes:
        table["a"] = 1
        first = changes.get(10)
        table["a"] = 2
        second = changes.get(10)
        del table["a"]
        third = changes.get(10)

    assert [change[:3] for change in (first, second, third)] == [("a", 1, None), ("a", 2, 1), ("a", None, 2)]
    assert first.offset < second.offset < third.offset


def test_a_watch_may_begin_with_what_is_there(table):
    table["a"] = 1

    with table.watch(initial=True) as changes:
        table["b"] = 2

        assert [changes.get(10)[:3], changes.get(10)[:3]] == [("a", 1, None), ("b", 2, None)]


def test_what_changes_twice_before_it_is_read_is_told_once(table):
    table["a"] = 1
    with table.watch() as changes:
        table.update(a=2, came=1)
        table["a"] = 3
        del table["came"]

        assert changes.get(10)[:3] == ("a", 3, 1)
        with pytest.raises(RequestTimeout):
            changes.get(0.01)


def test_a_watch_that_is_not_read_ends_and_says_why(table):
    with table.watch(max_pending=10) as changes:
        table.update({f"k{n}": n for n in range(11)})

        with pytest.raises(SlowConsumer, match="10 keys"):
            next(changes)
    table["still"] = "works"


def test_a_loop_over_changes_ends_when_the_table_is_closed(table):
    changes = table.watch()
    table["a"] = 1
    gevent.spawn(table.close)

    assert [change.key for change in changes] == ["a"]


# --- what is missed ----------------------------------------------------------------------------------


class Cut(Port):
    """A port on which what a table follows can be cut: then there is a gap, and what came in between is not told."""

    def follow(self, topic, start, epoch):
        self.reading = super().follow(topic, start, epoch)
        self.subscription = self.reading._subscription
        return self.reading

    def cut(self, write):
        """Do *write* so that the reading misses it."""
        self.subscription.offer = lambda batch: False
        write()
        del self.subscription.offer
        self.subscription.queue.put_gap(Gap(0, self.log.next, None, "retention"))
        self.subscription.on_ready()


def test_a_table_that_missed_something_reads_all_again_and_tells_the_difference(broker):
    port = Cut(broker)
    with Table(port, TOPIC) as table, again(broker) as other, table.watch() as changes:
        other.update(stays=1, goes=1, changes=1)
        before = [changes.get(10)[:3] for _ in range(3)]

        port.cut(lambda: (other.__delitem__("goes"), other.update(changes=2)))

        assert before == [("stays", 1, None), ("goes", 1, None), ("changes", 1, None)]
        assert {changes.get(10)[:3], changes.get(10)[:3]} == {("changes", 2, 1), ("goes", None, 1)}
        assert dict(table) == {"stays": 1, "changes": 2}
        table["later"] = 1
        assert changes.get(10)[:2] == ("later", 1)


# --- native threads --------------------------------------------------------------------------------------


def test_a_table_of_the_bridge_is_used_from_native_threads(broker):
    bridge = broker.for_threads()
    tables = []

    def write(worker):
        with bridge.table(TOPIC) as table:
            for n in range(10):
                table[f"{worker}.{n}"] = n
            tables.append(len(table))

    pool = gevent.get_hub().threadpool
    gevent.joinall([pool.spawn(write, worker) for worker in range(3)], raise_error=True)

    assert len(tables) == 3
    with again(broker) as table:
        assert len(table) == 30


def test_a_native_thread_waits_for_changes(broker, table):
    bridge = broker.for_threads()
    seen = []
    ready = threading.Event()

    def read():
        with bridge.table(TOPIC) as mine, mine.watch() as changes:
            ready.set()
            seen.extend(change[:2] for _, change in zip(range(3), changes))

    reading = gevent.get_hub().threadpool.spawn(read)
    while not ready.is_set():
        gevent.sleep(0.001)
    for n in range(3):
        table[f"k{n}"] = n
    reading.get(timeout=10)

    assert seen == [("k0", 0), ("k1", 1), ("k2", 2)]


def test_what_is_damaged_is_taken_over_by_no_table():
    with Broker.open("memory:") as broker, Table(Port(broker), TOPIC) as table:
        batch = Batch.of(TOPIC, ["MARK"], keys=["tea"])
        broker.append_and_wait(Append([Batch.parse(batch.packed.replace(b"MARK", b"MARX"))]))

        with pytest.raises(StoreCorrupt):
            table["milk"] = 1
        with pytest.raises(StoreCorrupt):
            table["tea"]
        with pytest.raises(StoreCorrupt):
            again(broker)
