"""FifoStore: what it keeps, in what order, and what comes back."""

import json
import shutil

import pytest

from zstreampub import FifoStore, Message, Undecodable
from zstreampub.errors import (
    BatchTooLarge,
    InvalidOption,
    InvalidPayload,
    MessageTooLarge,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreVersion,
)
from zstreampub.spool import contents, items, marks
from zstreampub.spool import fifo as fifo_store
from zstreampub.spool.contents import MOST_BYTES
from zstreampub.spool.fifo import READ_MESSAGES
from zstreampub.spool.records import read_items

VALUES = [b"bytes", b"", "text", 7, 1.5, True, [1, [2]], {"a": {"b": b"c"}}]


def test_messages_come_out_as_they_went_in(fifo):
    for value in VALUES:
        assert fifo.add(value)

    assert len(fifo) == len(VALUES) and list(fifo) == VALUES
    for value in VALUES:
        assert fifo.front() == value and fifo.front() == value
        assert fifo.pop_front()
    assert len(fifo) == 0


def test_an_empty_store_says_none_and_pops_nothing(fifo):
    assert fifo.front() is None
    assert fifo.front_many(5) == []
    assert fifo.pop_front() is False
    assert fifo.pop_many(5) == 0
    assert fifo.clear() == 0
    assert list(fifo) == [] and not len(fifo)


def test_an_empty_store_is_true_for_it_is_a_callback(fifo):
    assert fifo


def test_a_store_is_a_callback_and_none_passes_through_it(fifo):
    assert fifo(b"one") is True
    assert fifo(None) is False

    assert list(fifo) == [b"one"]


def test_a_store_whose_maker_died_before_it_wrote_anything_is_made_now(open_fifo, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FifoStore, "_make", dies)
        open_fifo()

    assert open_fifo().add(b"one")


def test_what_is_kept_is_there_when_it_is_opened_again(open_fifo):
    with open_fifo() as store:
        store.add_many(range(10))
        store.pop_many(3)

    again = open_fifo()

    assert list(again) == [3, 4, 5, 6, 7, 8, 9] and len(again) == 7


@pytest.mark.parametrize("size", [10, MOST_BYTES])
def test_groups_go_in_and_out_together(open_fifo, size):
    """Small groups go to the journal, large ones to LMDB."""
    values = [bytes([at]) * size for at in range(20)]
    store = open_fifo()
    assert store.add_many(values) == 20
    assert store.add_many([]) == 0
    assert store.add_many([None, b"last", None]) == 1

    assert store.front_many(15) == values[:15]
    assert store.pop_many(15) == 15
    store.close()
    again = open_fifo()
    assert again.front_many(100) == [*values[15:], b"last"]
    assert again.pop_many(100) == 6


def test_it_takes_groups_from_any_iterable(fifo):
    assert fifo.add_many(number for number in range(3)) == 3

    assert list(fifo) == [0, 1, 2]


def test_a_message_is_kept_whole(fifo):
    message = Message("a.b", 7, 1.25, {"v": b"x"}, key="k", id=b"i", headers={"h": 1}, expires=2.5)
    plain = Message("a", 8, 2.0, b"raw")
    fifo.add_many([message, plain])

    assert list(fifo) == [message, plain]
    assert type(fifo.front()) is Message and fifo.front().headers == {"h": 1}


def test_a_payload_that_did_not_decode_stays_as_it_is(fifo):
    fifo.add(Message("a", 0, 1.0, Undecodable(b"\xc1", "not msgpack")))

    payload = fifo.front().payload

    assert isinstance(payload, Undecodable) and payload.raw == b"\xc1" and payload.reason == "not msgpack"


def test_a_codec_is_anything_with_dumps_and_loads(open_fifo):
    store = open_fifo(codec=json)
    store.add_many([{"a": [1, None]}, b"bytes stay bytes", Message("t", 0, 1.0, {"b": 2})])

    assert store.front() == {"a": [1, None]}
    assert list(store)[1:] == [b"bytes stay bytes", Message("t", 0, 1.0, {"b": 2})]


def test_a_codec_without_both_is_refused(place):
    with pytest.raises(InvalidOption, match=r"dumps.*loads"):
        FifoStore(place, codec=object())


def test_what_the_codec_cannot_write_is_refused_and_nothing_is_kept(open_fifo):
    store = open_fifo(codec=json)

    with pytest.raises(InvalidPayload, match="set"):
        store.add_many([1, {2, 3}])

    assert list(store) == []


def test_what_msgpack_has_not_is_refused(fifo):
    for value in ({1: 2}, object(), 1 << 70, Message("a", 0, 1.0, object()), Message("a", 0, object(), 1)):
        with pytest.raises(InvalidPayload):
            fifo.add(value)

    assert list(fifo) == []


# --- what does not decode ----------------------------------------------------------------


def test_what_does_not_decode_is_named_by_its_position_and_can_be_popped(open_fifo):
    with open_fifo() as store:
        store.add_many([b"1", "text in msgpack is no JSON", b"2"])
        store.pop_front()
    store = open_fifo(codec=json)

    with pytest.raises(StoreCorrupt, match=r"position 1 .*another codec") as caught:
        store.front()
    assert caught.value.position == 1
    with pytest.raises(StoreCorrupt):
        store.front_many(2)
    assert store.pop_front()
    assert store.front() == b"2"


def test_many_at_the_front_end_before_what_does_not_decode(open_fifo):
    with open_fifo() as store:
        store.add_many([b"1", b"2", "x", b"3"])
    store = open_fifo(codec=json)

    assert store.front_many(10) == [b"1", b"2"]
    with pytest.raises(StoreCorrupt):
        list(store)


# --- two phases ----------------------------------------------------------------------------


def test_pop_removes_what_front_showed_and_nothing_else_if_that_was_dropped_meanwhile(open_fifo):
    store = open_fifo(max_messages=3, when_full="drop_oldest")
    store.add_many([1, 2, 3])
    assert store.front() == 1
    store.add(4)

    assert store.pop_front() is True

    assert list(store) == [2, 3, 4]
    assert store.pop_front() is True and list(store) == [3, 4]


def test_that_holds_for_many_popped_one_by_one(open_fifo):
    store = open_fifo(max_messages=4, when_full="drop_oldest")
    store.add_many([1, 2, 3, 4])
    shown = store.front_many(3)
    assert store.pop_front()
    store.add_many([5, 6, 7])     # 2 and 3 are dropped

    assert store.pop_front() and store.pop_front()

    assert shown == [1, 2, 3] and list(store) == [4, 5, 6, 7]


def test_iterating_goes_on_over_what_is_popped_and_added_meanwhile(fifo):
    fifo.add_many(range(2 * READ_MESSAGES))
    seen = iter(fifo)
    assert next(seen) == 0

    fifo.pop_many(READ_MESSAGES + 500)
    fifo.add("new")

    rest = list(seen)
    assert rest[:READ_MESSAGES - 1] == list(range(1, READ_MESSAGES))
    assert rest[READ_MESSAGES - 1:] == [*range(READ_MESSAGES + 500, 2 * READ_MESSAGES), "new"]


def test_everything_can_be_cleared(open_fifo):
    store = open_fifo()
    store.add_many(range(5))

    assert store.clear() == 5 and store.size_bytes == 0
    store.add(1)
    store.close()
    assert list(open_fifo()) == [1]


# --- more than is in memory, and more than the journal has -------------------------------------------


def test_a_long_backlog_comes_back_in_order_in_whatever_pieces(open_fifo):
    """More than the front in memory and the journal hold, in records of many sizes, over several openings."""
    numbers = iter(range(1 << 30))
    added = []
    for _ in range(3):
        with open_fifo() as store:
            for count in (1, 1, 700, 3, 5000, 1, 9000):
                group = [next(numbers) for _ in range(count)]
                store.add_many([b"%d" % number + bytes(150) for number in group])
                added += group
    store = open_fifo()
    assert [int(value[:-150]) for value in store] == added
    assert [int(value[:-150]) for value in store.front_many(50_000)] == added
    taken = []
    for at, count in enumerate([1, 2, 1000, 17, 9000, 1] * 6):
        taken += [int(value[:-150]) for value in store.front_many(count)]
        assert store.pop_many(count) <= count
        if at % 5 == 4:
            store.close()
            store = open_fifo()
    assert taken == added and len(store) == 0 and store.size_bytes == 0


def test_what_is_taken_in_groups_is_read_from_the_disk_once_and_little_of_it_at_a_time(open_fifo, monkeypatch):
    store = open_fifo()
    store.add_many([b"%d" % number + bytes(150) for number in range(30_000)])
    read = []

    def counted(*arguments):
        position, found = read_items(*arguments)
        read.append(len(found))
        return position, found

    monkeypatch.setattr(contents, "read_items", counted)
    monkeypatch.setattr(fifo_store, "read_items", counted)
    held = []
    for _ in range(30):
        store.pop_many(len(store.front_many(1000)))
        held.append(store.contents.front.size_bytes)

    assert len(store) == 0 and sum(read) <= 30_000
    assert max(held) <= 2 * contents.FRONT_BYTES


def test_the_file_does_not_grow_with_what_goes_through(open_fifo, place):
    store = open_fifo()
    for _ in range(60):
        store.add_many([bytes(1000)] * 1000)
        store.pop_many(1000)
    store.close()

    assert (place / "data.mdb").stat().st_size <= 20 << 20
    assert len(open_fifo()) == 0


# --- marks -----------------------------------------------------------------------------------------


def test_a_mark_is_kept_with_the_message(open_fifo):
    with open_fifo() as store:
        store.add(b"one", mark=("orders", 17))
        store.add_many([b"two", b"three"], mark=("epoch", "e-1"))
        store.add(b"four", mark=("orders", {"next": 20}))
        assert store.mark("orders") == {"next": 20} and store.mark("none") is None

    again = open_fifo()

    assert again.marks == {"orders": {"next": 20}, "epoch": "e-1"} and len(again) == 4


def test_a_mark_moves_without_a_message_and_is_removed_by_none(open_fifo):
    with open_fifo() as store:
        assert store.add(None, mark=("a", 1)) is False
        store.set_mark("b", 2)
        store.set_mark("a", None)

    again = open_fifo()

    assert again.marks == {"b": 2} and len(again) == 0


def test_a_mark_is_kept_with_the_removal(open_fifo):
    with open_fifo() as store:
        store.add_many([1, 2, 3])
        assert store.pop_many(2, ("done", 2)) == 2
        assert store.pop_many(5, mark=("done", 3)) == 1
        assert store.pop_many(1, mark=("empty", True)) == 0
        store.add(4)
        for number in range(marks.MAX_MARKS - 2):
            store.set_mark(str(number), number)
        with pytest.raises(InvalidOption):
            store.pop_many(1, ("one too many", 1))

    again = open_fifo()

    assert again.mark("done") == 3 and again.mark("empty") is True and list(again) == [4]


def test_a_mark_stays_as_it_is_if_its_message_is_refused(open_fifo):
    store = open_fifo(max_messages=1)
    store.add(1, mark=("a", 1))

    with pytest.raises(StoreError):
        store.add(2, mark=("a", 2))
    with pytest.raises(InvalidPayload):
        store.add(object(), mark=("a", 3))

    assert store.mark("a") == 1


@pytest.mark.parametrize("mark, error", [
    (("a",), InvalidOption), (5, InvalidOption), (("", 1), InvalidOption), ((b"a", 1), InvalidOption),
    (("a", object()), InvalidPayload), (("a", {1: 2}), InvalidPayload),
    (("a", bytes(marks.MAX_MARK_BYTES)), InvalidOption),
])
def test_a_mark_that_is_none_is_refused_with_its_message(fifo, mark, error):
    with pytest.raises(error):
        fifo.add(1, mark=mark)

    assert len(fifo) == 0 and fifo.marks == {}


def test_there_are_so_many_marks_and_no_more(open_fifo):
    fifo = open_fifo(durability="relaxed")
    for at in range(marks.MAX_MARKS):
        fifo.set_mark(f"m{at}", "x" * 900)

    with pytest.raises(InvalidOption, match="100 marks"):
        fifo.add(1, mark=("one more", 1))
    fifo.add(2, mark=("m7", "another value"))

    assert list(fifo) == [2] and fifo.mark("m7") == "another value" and len(fifo.marks) == marks.MAX_MARKS


# --- limits -------------------------------------------------------------------------------------------


def test_the_largest_message_fits_and_a_larger_one_is_refused(fifo, monkeypatch):
    monkeypatch.setattr(items, "MAX_MESSAGE_BYTES", 1000)
    fifo.add(bytes(999))      # and one byte that says what it is

    with pytest.raises(MessageTooLarge, match="at most 1000 bytes, this one has 1001"):
        fifo.add(bytes(1000))

    assert len(fifo) == 1


def test_a_group_has_a_limit_too(fifo, monkeypatch):
    monkeypatch.setattr("zstreampub.spool.fifo.MAX_GROUP_BYTES", 1000)
    fifo.add_many([bytes(499)] * 2)

    with pytest.raises(BatchTooLarge):
        fifo.add_many([bytes(499), bytes(500)])

    assert len(fifo) == 2


@pytest.mark.parametrize("options", [
    {"when_full": "explode"}, {"max_messages": 0}, {"max_messages": "5"}, {"max_bytes": -1}, {"durability": "none"},
    {"max_disk_bytes": 5}, {"block_timeout_s": -1},
])
def test_a_wrong_option_is_refused(place, options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        FifoStore(place, **options)


def test_a_wrong_count_is_refused(fifo):
    for count in (0, -1, "2", 1.5):
        with pytest.raises(InvalidOption):
            fifo.pop_many(count)
        with pytest.raises(InvalidOption):
            fifo.front_many(count)


# --- what is found in the directory -----------------------------------------------------------------------


def test_a_second_opening_is_told_who_has_it(fifo, place):
    with pytest.raises(StoreLocked, match="pid"):
        FifoStore(place)


def test_a_closed_store_says_so(fifo):
    fifo.close()
    fifo.close()

    for use in (fifo.front, fifo.pop_front, lambda: fifo.add(1), lambda: len(fifo), lambda: list(fifo),
                lambda: fifo.front_many(2), lambda: fifo.mark("a"), lambda: fifo.size_bytes):
        with pytest.raises(StoreClosed):
            use()


def test_another_kind_of_store_is_left_as_it_is(open_latest, place):
    open_latest().close()

    with pytest.raises(StoreVersion, match="not a FifoStore"):
        FifoStore(place)

    assert open_latest().message() is None


def test_a_strange_directory_is_left_as_it_is(place):
    place.mkdir()
    (place / "letter.txt").write_text("mine")

    with pytest.raises(StoreVersion, match=r"letter\.txt"):
        FifoStore(place)


def test_a_file_that_is_no_store_is_left_as_it_is(place):
    place.mkdir()
    (place / "data.mdb").write_bytes(b"something else" * 1000)

    with pytest.raises(StoreCorrupt, match="no store"):
        FifoStore(place)

    assert (place / "data.mdb").read_bytes().startswith(b"something else")


def test_a_store_of_a_newer_format_is_left_as_it_is(open_fifo, monkeypatch, place):
    monkeypatch.setattr("zstreampub.spool.records.FORMAT", 2)
    open_fifo().close()
    monkeypatch.undo()

    with pytest.raises(StoreVersion, match="format 2"):
        FifoStore(place)


def test_the_journal_of_a_copy_that_went_its_own_way_is_ignored(open_fifo, place, tmp_path):
    copy = tmp_path / "copy"
    open_fifo().close()
    shutil.copytree(place, copy)
    for directory, value in ((place, "here"), (copy, "there")):
        with FifoStore(directory) as store:
            store.add(value)
    with FifoStore(copy) as store:
        store.add("last there")
        shutil.copy(copy / "journal", place / "journal")

    assert list(open_fifo()) == ["here"]


def test_a_cut_off_file_is_told(open_fifo, place):
    with open_fifo() as store:
        store.add_many([bytes(MOST_BYTES)] * 10)
    with open(place / "data.mdb", "r+b") as data:
        data.truncate(20_000)

    with pytest.raises(StoreCorrupt, match="cut off"):
        FifoStore(place)


def test_a_damaged_record_costs_its_own_messages_only(open_fifo, place):
    with open_fifo() as store:
        store.add_many([b"x" * 40_000] * 2)     # to LMDB at once
        store.add_many([b"y" * 40_000] * 2)
    content = (place / "data.mdb").read_bytes()
    at = content.index(b"\x02\0\0\0" + (40_001).to_bytes(4, "little"))
    with open(place / "data.mdb", "r+b") as data:
        data.seek(at)
        data.write(b"\xff\xff")
    store = open_fifo()

    found = []
    while len(store):
        try:
            found.append(store.front()[:1])
        except StoreCorrupt as error:
            assert "damaged" in str(error)
            found.append(None)
        store.pop_front()

    assert sorted(found, key=str) in ([None, None, b"x", b"x"], [None, None, b"y", b"y"]) or \
        found in ([None, None, b"y", b"y"], [b"x", b"x", None, None])
