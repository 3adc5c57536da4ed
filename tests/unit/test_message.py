"""Packing payloads: what can be carried, what is refused, and the limits to the byte."""

import math
import struct

import msgpack
import pytest

from tests.packing import with_checksum
from zstreampub.errors import (
    BatchTooLarge,
    InvalidBatch,
    InvalidPayload,
    InvalidTopic,
    MessageTooLarge,
    StoreCorrupt,
)
from zstreampub.message import HEADER, NEVER_US, Batch, Message
from zstreampub.payload import (
    MAX_HEADERS,
    MAX_KEY_BYTES,
    Alike,
    Undecodable,
    pack_payload,
    pack_payloads,
    sizes_of,
)


def nested(levels):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def short(value):
    is_nested = isinstance(value, list) and value and isinstance(value[0], list)
    return "nested" if is_nested else repr(value)[:20]


@pytest.mark.parametrize("payload", [
    None, True, math.inf, -2**63, 2**64 - 1, "", b"", "größe", [], {}, {b"bytes": {"text": [None, {b"": 1}]}},
    nested(500), msgpack.Timestamp(5, 6), msgpack.ExtType(5, b"abc"),
], ids=short)
def test_a_payload_comes_back_as_it_was(payload):
    batch = Batch.of("a", [payload])

    assert Batch.check(batch.packed, 1 << 20, 10).payloads == [payload]


@pytest.mark.parametrize("payload", [
    2**64, -2**63 - 1, {1: "a"}, [{"deep": [{None: 1}]}], {(1, 2): 3}, nested(1_000), nested(1_100), "\udc80",
    ["\ud800"], {"\udc80": 1}, {1, 2}, object(), 1j,
], ids=short)
def test_a_payload_that_no_reader_could_decode_is_refused(payload):
    with pytest.raises(InvalidPayload):
        pack_payload(payload)
    with pytest.raises(InvalidPayload):
        Batch.of("a", ["good", payload])


def test_the_deepest_payload_that_is_taken_can_be_read_from_every_frame():
    levels = 500
    while True:
        try:
            batch = Batch.of("a", [nested(levels + 1)])
        except InvalidPayload:
            break
        levels += 1

    batch = Batch.of("a", [nested(levels)])
    item, = batch.map_items()

    assert 900 < levels < 1_000
    msgpack.unpackb(msgpack.packb([{}, "OK", None])[:-1] + b"\x91\x91" + item)


def test_a_strangers_payload_that_is_too_deep_for_a_frame_is_given_as_its_bytes():
    raw = b"\x91" * 1_010 + b"\x01"
    batch = Batch.check(Batch.assemble("a", [raw, b"\x02"], {}).packed, 1 << 20, 10)

    broken, good = (msgpack.unpackb(item) for item in batch.map_items())

    assert (broken["payload"], broken["error"]) == (raw, "InvalidPayload")
    assert good["payload"] == 2


def test_a_payload_may_have_the_limit_and_not_one_byte_more():
    fits = Batch.of("a", ["x", bytes(95)])      # 97 bytes packed
    longer = Batch.of("a", ["x", bytes(96)])

    assert Batch.check(fits.packed, 97, 2).count == 2
    with pytest.raises(MessageTooLarge) as caught:
        Batch.check(longer.packed, 97, 2)
    assert (caught.value.size, caught.value.limit) == (98, 97)


def test_a_batch_may_have_the_most_messages_and_not_one_more():
    packed = Batch.of("a", [1] * 10).packed

    assert Batch.check(packed, 100, 10).count == 10
    with pytest.raises(BatchTooLarge):
        Batch.check(packed, 100, 9)


@pytest.mark.parametrize("name", ["keys", "ids"])
@pytest.mark.parametrize("value", ["", b"", 5, "\udc80", "x" * 256, "ü" * 128, b"x" * 256, [1], {}])
def test_a_key_or_id_that_is_none_is_refused(name, value):
    with pytest.raises(InvalidPayload):
        Batch.of("a", [1], **{name: [value]})


@pytest.mark.parametrize("value", ["x" * MAX_KEY_BYTES, "ü" * 127, b"\xff" * MAX_KEY_BYTES])
def test_a_key_may_have_255_bytes(value):
    assert Batch.of("a", [1], [value], [value]).metadata == {"key": [value], "id": [value]}


@pytest.mark.parametrize("value", [0, -1, 2**53, 1.5, True, "soon", [1]])
def test_an_expiry_that_is_no_time_is_refused(value):
    with pytest.raises(InvalidPayload):
        Batch.of("a", [1], expires=[value])


def test_readers_see_an_expiry_in_seconds():
    batch = Batch.of("a", [1, 2], expires=[1_500_000, None])

    assert [message.expires for message in batch.messages()] == [1.5, None]
    assert [msgpack.unpackb(item).get("expires") for item in batch.map_items()] == [1.5, None]
    assert batch.expires == batch.metadata["expires"] == [1_500_000, None]


def test_the_expiries_of_a_part_of_a_batch_are_its_own():
    batch = Batch.of("a", [1, 2, 3], expires=[5, None, 9])

    parts = [batch, batch.slice(1, 3), batch.slice(1, 2)]
    assert [part.soonest_expiry for part in parts] == [5, 9, NEVER_US]
    assert [one.expires for one in batch.singles([0, 2])] == [[5], [9]]


@pytest.mark.parametrize("column", [["a"], ["a", "b", "c"], [], "ab", {"a": 1, "b": 2}, 5, b"ab"])
def test_a_column_is_a_list_with_one_entry_for_each_payload(column):
    for name in ("keys", "ids", "headers", "expires"):
        with pytest.raises(InvalidPayload):
            Batch.of("a", [1, 2], **{name: column})


@pytest.mark.parametrize("headers", [
    5, "text", ["a"], {5: 1}, {b"bytes": 1}, {"a": []}, {"a": {}}, {"a": 2**64}, {"a": "\udc80"}, {"\udc80": 1},
    {f"h{n}": n for n in range(MAX_HEADERS + 1)}], ids=lambda headers: repr(headers)[:20])
def test_headers_that_cannot_be_carried_are_refused(headers):
    with pytest.raises(InvalidPayload):
        Batch.of("a", [1], headers=[headers])


def test_64_headers_of_all_kinds_are_carried():
    values = [None, True, 5, 1.5, "text", b"bytes"] + [0] * (MAX_HEADERS - 6)
    headers = {f"h{n}": value for n, value in enumerate(values)}

    assert Batch.of("a", [1], headers=[headers]).messages()[0].headers == headers


@pytest.mark.parametrize("topic", ["", "a..b", "a.*", None, b"a", "x" * 256])
def test_a_batch_of_a_bad_topic_is_refused(topic):
    with pytest.raises(InvalidTopic):
        Batch.of(topic, [1])


def repacked(batch, **changes):
    names = ("version", "flags", "topic", "count", "first", "time", "payloads", "metadata", "checksum")
    fields = dict(zip(names, HEADER.unpack_from(batch.packed)))
    fields.update(changes)
    body = batch.packed[HEADER.size:]
    return HEADER.pack(*fields.values()) + body if "checksum" in changes else with_checksum(fields.values(), body)


@pytest.mark.parametrize("changes", [
    {"version": 2}, {"version": 0}, {"flags": 4}, {"flags": 1}, {"flags": 2}, {"count": 0}, {"count": 5},
    {"count": 2**32 - 1}, {"payloads": 2**32 - 1}, {"topic": 65_535}, {"metadata": 1}, {"checksum": 0}], ids=str)
def test_a_header_that_does_not_fit_its_batch_is_refused(changes):
    batch = Batch.of("a", [1, 2, 3, 4])

    with pytest.raises((InvalidBatch, BatchTooLarge)):
        Batch.check(repacked(batch, **changes), 100, 10)


def test_a_payload_of_no_bytes_is_no_message():
    batch = Batch.assemble("a", [b"", b"\x01"], {})

    with pytest.raises(InvalidBatch):
        Batch.check(batch.packed, 100, 10)


@pytest.mark.parametrize("at, value", [(1, 4), (3, 0), (7, 2), (27, 5), (31, 1)])
def test_a_header_that_the_publisher_did_not_write_is_refused(at, value):
    packed = bytearray(Batch.of("a", [1] * 4).packed)
    assert packed[at] != value

    packed[at] = value

    with pytest.raises(InvalidBatch):
        Batch.check(bytes(packed), 100, 10)
    with pytest.raises((StoreCorrupt, InvalidBatch)):
        Batch.parse(bytes(packed)).verify()


@pytest.mark.parametrize("lengths", [(1, 3), (3, 3), (0, 4), (2**32 - 1, 5)])
def test_lengths_that_do_not_add_up_to_the_payloads_are_refused(lengths):
    batch = Batch.of("a", [1, b"x"])     # of 1 and 3 bytes
    body = bytearray(batch.packed[HEADER.size:])
    struct.pack_into(">2I", body, 1, *lengths)
    fields = list(HEADER.unpack_from(batch.packed))
    packed = with_checksum(fields, bytes(body))

    if lengths == (1, 3):
        assert Batch.check(packed, 100, 10).payloads == [1, b"x"]
        return
    with pytest.raises(InvalidBatch):
        Batch.check(packed, 100, 10)


def test_the_store_hears_of_bytes_that_are_no_batch():
    for packed in (b"", b"\x01", bytes(36), b"\x02" + bytes(40)):
        with pytest.raises(StoreCorrupt):
            Batch.parse(packed)


def test_the_map_form_is_made_once():
    batch = Batch.of("a", [1, 2])

    assert batch.map_items() is batch.map_items()


def test_a_payload_cut_short_does_not_eat_of_the_next():
    cut = msgpack.packb([0.0])[:-1]     # with one byte more, the next payload's first, it would be a value

    first, second = Batch.assemble("a", [cut, msgpack.packb([None])], {}).payloads

    assert isinstance(first, Undecodable)
    assert second == [None]


@pytest.mark.parametrize("good", [b"x" * 300, b"x" * 70_000, b"y" * 20, "z" * 31, "z" * 32, "ä" * 150, "z" * 70_000])
def test_a_payload_of_the_same_size_as_the_others_that_states_another_is_found(good):
    raw = pack_payload(good)
    head = len(raw) - len(good if isinstance(good, bytes) else good.encode())
    short = raw[:head - 1] + bytes((raw[head - 1] - 1,)) + raw[head:]       # a byte is left over
    values = [raw, short, raw, raw]

    first, second, third, fourth = Batch.assemble("a", values, {}).payloads

    assert isinstance(second, Undecodable)
    assert (first, third, fourth) == (good, good, good)
    assert Batch.assemble("a", [raw] * 3, {}).payloads == [good] * 3


@pytest.mark.parametrize("value", [b"", b"x" * 255, b"x" * 256, b"x" * 70_000, "", "z" * 31, "z" * 32, "ä" * 200])
@pytest.mark.parametrize("count", [1, 15, 16, 70_000])
def test_payloads_of_one_size_are_packed_at_once_and_are_the_same_bytes(value, count):
    if len(value) > 1000 and count > 1000:
        count = 20      # half a gigabyte says no more
    packed = pack_payloads([value] * count)

    assert isinstance(packed, Alike)
    assert list(packed) == [pack_payload(value)] * count == list(packed[:])
    assert sizes_of(packed) == [len(pack_payload(value))] * count
    assert packed[count - 1] == pack_payload(value) and len(packed[1:]) == count - 1
    assert Batch.assemble("a", packed, {}).packed == Batch.assemble("a", list(packed), {}).packed


@pytest.mark.parametrize("values", [[b"a", b"bc"], ["a", "ä"], [b"a", "a"], [1, 2], [b"x" * 255, b"x" * 256]], ids=repr)
def test_payloads_of_several_sizes_or_kinds_are_packed_one_by_one(values):
    assert pack_payloads(values) == [pack_payload(value) for value in values]


def test_text_that_cannot_be_carried_is_refused_among_text_of_its_size():
    with pytest.raises(InvalidPayload):
        pack_payloads(["a", "\udc80"])


@pytest.mark.parametrize("empty", [b"", ""])
def test_empty_payloads_come_back_together(empty):
    assert Batch.of("a", [empty] * 3).payloads == [empty] * 3


def test_a_message_says_what_it_is():
    message = Message("a", 5, 1.5, {"x": 1}, key=b"k")

    assert repr(message) == "<Message 5 a {'x': 1}>"
    assert message == Message("a", 5, 1.5, {"x": 1}, key=b"k")
    assert message != Message("a", 5, 1.5, {"x": 1})
    assert message.as_map() == {"topic": "a", "offset": 5, "time": 1.5, "payload": {"x": 1}, "key": b"k"}
    assert "3 bytes" in repr(Undecodable(b"abc", "why"))


@pytest.mark.parametrize("keys", [None, ["k" * at for at in range(1, 31)]], ids=["no keys", "keys"])
@pytest.mark.parametrize("sizes", [[20] * 30, list(range(30)), [*range(29), 900]], ids=["even", "rising", "a long end"])
@pytest.mark.parametrize("at_end", [False, True], ids=["start", "end"])
def test_the_messages_that_fit_a_room_are_counted_and_never_too_many(keys, sizes, at_end):
    batch = Batch.of("a", [bytes(size) for size in sizes], keys)

    for room in (*range(0, batch.size, 7), batch.size):
        count = batch.count_within(room, 25, at_end)
        assert 0 <= count <= 25
        if count:
            part = batch.slice(30 - count, 30) if at_end else batch.slice(0, count)
            assert part.size <= room
    assert batch.count_within(batch.size, 30, at_end) >= (30 if keys is None else 15)


def test_without_metadata_no_message_more_would_have_fitted():
    batch = Batch.of("a", [bytes(size % 2) for size in range(30)])

    for room in range(100, batch.size):
        count = batch.count_within(room, 30)
        assert batch.slice(0, count + 1).size > room


def test_messages_that_are_taken_out_singly_stay_what_they_are():
    batch = Batch.of("a", [1, "two", None], [None, "k", "k"], headers=[{"h": 1}, None, None])
    batch.seal(7, 1_000_000)

    singles = batch.singles([0, 2])

    assert [one.packed for one in singles] == [batch.slice(0, 1).packed, batch.slice(2, 3).packed]
    assert [(one.first, one.next, one.time) for one in singles] == [(7, 8, 1.0), (9, 10, 1.0)]


# --- damage ------------------------------------------------------------------------------------


def damaged():
    """Return a batch of four, of which one payload is not what its publisher packed."""
    packed = Batch.of("a", [b"xx", b"MARK", b"y", b"z"], keys=["a", "b", "c", "d"]).packed
    return Batch.parse(packed.replace(b"MARK", b"MARX"))


def test_what_is_cut_out_of_a_damaged_batch_is_damaged_too():
    batch = damaged()

    parts = [batch, batch.slice(1, 3), batch.slice(0, 2).slice(1, 2), *batch.singles([0, 3])]

    assert not any(part.is_sound for part in parts)
    for part in parts:
        with pytest.raises(StoreCorrupt, match="does not fit its checksum") as told:
            Batch.parse(part.packed).verify()
        assert (told.value.offset, told.value.next) == (part.first, part.next)


def test_readers_are_told_of_damage_in_each_message():
    batch = damaged()
    batch.seal(7, 5_000_000)

    whole = batch.verified_messages()
    maps = [msgpack.unpackb(item) for item in batch.map_items()]

    assert [message.payload.raw for message in whole] == [b"\xc4\x02xx", b"\xc4\x04MARX", b"\xc4\x01y", b"\xc4\x01z"]
    assert maps == batch.maps() == [
        {"topic": "a", "offset": message.offset, "time": 5.0, "payload": message.payload.raw, "error": "StoreCorrupt"}
        for message in whole]
    assert [type(Message.of_map(one).payload) for one in maps] == [Undecodable] * 4


def test_a_damaged_batch_can_be_cut_or_it_says_that_it_is_damaged():
    packed = Batch.of("a", ["x", "yy", "zzz"], ["k", None, "l"], headers=[{"h": 1}] * 3, expires=[1, 2, None]).packed
    told = 0

    for at in range(1, len(packed)):
        if 8 <= at < 24:
            continue        # offset and time, which are not the publisher's
        try:
            batch = Batch.parse(packed[:at] + bytes((packed[at] ^ 0x41,)) + packed[at + 1:])
            assert batch.soonest_expiry
            assert not any(part.is_sound for part in [batch.slice(1, 2), batch.slice(0, 2), *batch.singles([0, 2])])
            batch.verified_messages()
            batch.map_items()
        except StoreCorrupt:
            told += 1

    assert told < 30, "of the header and the lengths"


def test_damage_that_makes_millions_of_messages_of_a_few_is_no_trap():
    packed = bytearray(Batch.of("a", [b"x", b"y"]).packed)
    packed[4] = 0xff        # of the number of messages

    with pytest.raises(StoreCorrupt):
        Batch.parse(bytes(packed)).verified_messages()
