"""The journal beside LMDB: which of its records count after a crash, and what happens where one cannot be written."""

import os
import struct
from itertools import product
from zlib import crc32

import pytest

from zstreampub.disk import journal
from zstreampub.disk.journal import BLOCK_BYTES, FILE_BYTES, Journal, new_ground
from zstreampub.errors import StoreError

GROUND = b"12345678"
HEAD_BYTES = 16
PAYLOADS = [b"a", b"", b"b" * 10_000, b"c" * (BLOCK_BYTES - HEAD_BYTES), b"d" * (BLOCK_BYTES - HEAD_BYTES + 1), b"e"]


class Opened(Journal):
    """A journal that has ``found`` what was there."""

    def __init__(self, place, ground, synced):
        super().__init__(place, "file", synced)
        self.found = self.replay(ground)


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens the journal as another start would."""
    made = []

    def opened(ground=GROUND, synced=True):
        made.append(Opened(tmp_path, ground, synced))
        return made[-1]
    yield opened
    for one in made:
        one.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def append_all(one, payloads):
    for payload in payloads:
        assert one.append(payload)


# --- what counts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), list(product([True, False], repeat=2)))
def test_what_was_appended_is_found_and_more_can_follow(opened, first, second):
    append_all(opened(synced=first), PAYLOADS)
    append_all(opened(synced=second), [b"more", b"and more"])

    one = opened(synced=first)

    assert one.found == [*PAYLOADS, b"more", b"and more"] and not one.is_empty


def test_the_file_is_as_is_written_in_the_head_of_its_code(opened, path):
    append_all(opened(), [b"one", b"four"])
    append_all(opened(synced=False), [b"!"])

    rest = [struct.pack("<I", len(payload)) + GROUND + payload for payload in (b"one", b"four", b"!")]
    sums, wanted = [1], bytearray(FILE_BYTES)
    for one, at in zip(rest, (0, 4096, 4096 + 20)):
        sums.append(crc32(one, sums[-1]))
        wanted[at:at + 4 + len(one)] = struct.pack("<I", sums[-1]) + one
    assert path.read_bytes() == wanted


def test_synced_records_share_no_block_and_others_lie_close(opened, path):
    writes = []
    for synced in (True, False):
        one = opened(new_ground(), synced)
        append_all(one, [b"x" * 100] * 10)
        content = path.read_bytes()
        writes.append([at for at in range(0, FILE_BYTES, 4) if content[at + 8:at + 16] == one._ground])

    assert writes == [[BLOCK_BYTES * at for at in range(10)], [116 * at for at in range(10)]]


def test_nothing_was_appended_and_no_file_is_made(opened, tmp_path):
    assert opened().found == [] and opened().is_empty
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("synced", [True, False])
def test_those_on_another_ground_do_not_count(opened, synced):
    one = opened(synced=synced)
    append_all(one, [b"a", b"b", b"c"])
    other = new_ground()
    assert opened(other).found == []

    one.restart(other)
    assert one.is_empty
    append_all(one, [b"d"])

    assert opened(other).found == [b"d"]
    assert opened().found == []


@pytest.mark.parametrize("synced", [True, False])
def test_what_came_after_a_lost_record_does_not_count_after_another_in_its_place(opened, path, synced):
    append_all(opened(synced=synced), [b"a", b"lost", b"c"])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"lost", b"\0" * 4))
    one = opened(synced=synced)
    assert one.found == [b"a"]

    append_all(one, [b"else"])

    assert opened().found == [b"a", b"else"]


@pytest.mark.parametrize("synced", [True, False])
def test_a_record_with_any_byte_damaged_ends_what_counts(opened, path, synced):
    append_all(opened(synced=synced), [b"a", b"damaged", b"c"])
    content = path.read_bytes()
    at = content.index(b"damaged") - HEAD_BYTES
    for place in range(at, at + HEAD_BYTES + len(b"damaged")):
        path.write_bytes(content[:place] + bytes((content[place] ^ 0xff,)) + content[place + 1:])

        assert opened().found == [b"a"]


@pytest.mark.parametrize("size", [0, 3, HEAD_BYTES, HEAD_BYTES + 7, HEAD_BYTES + 8, BLOCK_BYTES, BLOCK_BYTES + 20])
def test_a_file_that_was_cut_off_is_made_whole(opened, path, size):
    append_all(opened(), [b"a" * 8, b"b" * 8])
    os.truncate(path, size)
    whole = [b"a" * 8] if size >= HEAD_BYTES + 8 else []
    one = opened()
    assert one.found == whole

    append_all(one, [b"c"])

    assert os.path.getsize(path) == FILE_BYTES
    assert opened().found == [*whole, b"c"]


# --- what is not kept ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("synced", "room"), [(True, 2 * BLOCK_BYTES - HEAD_BYTES),
                                              (False, 3 * BLOCK_BYTES - 2 * HEAD_BYTES - 1)])
def test_what_does_not_fit_is_left_to_lmdb(opened, monkeypatch, synced, room):
    monkeypatch.setattr(journal, "FILE_BYTES", 3 * BLOCK_BYTES)
    one = opened(synced=synced)
    append_all(one, [b"a"])

    assert not one.append(b"b" * (room + 1))
    assert one.append(b"b" * room)
    assert not one.append(b"")
    assert [len(payload) for payload in opened().found] == [1, room]


@pytest.mark.parametrize("is_there", [True, False])
def test_one_that_was_written_in_part_is_none(opened, monkeypatch, is_there):
    one, write = opened(), os.pwrite
    append_all(one, [b"a"] * is_there)
    monkeypatch.setattr(os, "pwrite", lambda file, content, at: write(file, content[:-1], at))

    assert not one.append(b"b")
    assert opened().found == [b"a"] * is_there
    monkeypatch.undo()
    assert one.append(b"c")
    assert opened().found == [*[b"a"] * is_there, b"c"]


def test_where_no_file_can_be_made_it_is_tried_again(opened, path):
    one = opened()
    os.mkdir(path)
    assert not one.append(b"a")
    os.rmdir(path)

    assert one.append(b"b")
    assert opened().found == [b"b"]


def test_one_that_cannot_be_read_is_an_error(opened, path):
    os.mkdir(path)

    with pytest.raises(StoreError, match="file cannot be read: Is a directory"):
        opened()


# --- when it is on disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("synced", [True, False])
def test_what_is_found_is_synced_before_more_goes_behind_it(opened, monkeypatch, path, synced):
    append_all(opened(synced=False), [b"a"])
    synced_files, sync = [], os.fsync

    def note(file):
        synced_files.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)
    monkeypatch.setattr(os, "fsync", note)

    assert opened(synced=synced).found == [b"a"]
    assert synced_files == [str(path)] * synced


def test_the_file_and_its_name_are_synced_before_the_first_record(opened, monkeypatch, tmp_path, path):
    sync, write = os.fsync, os.pwrite
    order: list = []

    def note(file):
        order.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    def note_write(file, content, at):
        order.append(len(content))
        return write(file, content, at)
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "pwrite", note_write)

    append_all(opened(), [b"a"])

    assert order == [FILE_BYTES, str(path), str(tmp_path), HEAD_BYTES + 1]
