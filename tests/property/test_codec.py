"""The batch format: what goes in comes out, and no bytes of a stranger raise anything but an error of ours."""

import math

import msgpack
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.packing import with_checksum
from zstreampub.errors import InvalidBatch, RequestError, StoreCorrupt, ZStreamPubError
from zstreampub.message import HAS_EXPIRY, HAS_IDS, HEADER, NEVER_US, Batch
from zstreampub.payload import Undecodable

MANY = 1 << 16
LARGE = 1 << 20

TEXTS = st.text(max_size=12)
NAMES = st.one_of(st.text(min_size=1, max_size=12), st.binary(min_size=1, max_size=12))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2**63, 2**64 - 1), st.floats(), TEXTS,
                    st.binary(max_size=12),
                    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
                    st.builds(msgpack.Timestamp, st.integers(-2**40, 2**40), st.integers(0, 999_999_999)))
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(
    st.lists(inner, max_size=4),
    st.dictionaries(st.one_of(TEXTS, st.binary(max_size=6)), inner, max_size=4)), max_leaves=8)
HEADER_VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2**63, 2**64 - 1),
                          st.floats(allow_nan=False), TEXTS, st.binary(max_size=8))
TOPICS = st.sampled_from(("a", "orders.eu.new", "größe.東京", "$sys.x", "t" * 255))


@st.composite
def columns(draw, values=VALUES, max_size=6):
    """``(topic, payloads, keys, ids, headers, expires)`` of one batch."""
    payloads = draw(st.lists(values, min_size=1, max_size=max_size))
    size = len(payloads)

    def column(entries):
        return draw(st.one_of(st.none(), st.lists(st.one_of(st.none(), entries), min_size=size, max_size=size)))

    return (draw(TOPICS), payloads, column(NAMES), column(NAMES),
            column(st.dictionaries(TEXTS, HEADER_VALUES, max_size=3)), column(st.integers(1, 2**53 - 1)))


def same(one, other):
    """Compare packed, so that NaN is NaN and 1 is not 1.0."""
    return msgpack.packb(one) == msgpack.packb(other)


def expected(first, time, topic, payloads, keys, ids, headers, expires):
    """The messages as a stock client sees them."""
    maps = []
    for at, payload in enumerate(payloads):
        fields = {"topic": topic, "offset": first + at, "time": time, "payload": payload}
        seconds = expires and [None if us is None else us / 1e6 for us in expires]
        for name, column in (("key", keys), ("id", ids), ("headers", headers), ("expires", seconds)):
            if column is not None and column[at] is not None:
                fields[name] = column[at]
        maps.append(fields)
    return maps


@given(columns(), st.integers(0, 2**53 - 100), st.integers(0, 2**52))
def test_a_batch_gives_back_what_was_packed_after_its_bytes_were_checked_and_sealed(parts, first, time_us):
    packed = Batch.of(*parts).packed

    batch = Batch.check(packed, LARGE, MANY)
    batch.seal(first, time_us)
    again = Batch.parse(batch.packed)

    again.verify()
    assert (again.topic, again.count, again.first, again.time_us) == (parts[0], len(parts[1]), first, time_us)
    assert same([message.as_map() for message in again.messages()], expected(first, time_us / 1e6, *parts))


@given(columns())
def test_the_map_form_is_what_the_messages_say(parts):
    batch = Batch.of(*parts)
    batch.seal(7, 1_000_000)

    maps = [msgpack.unpackb(item) for item in batch.map_items()]

    for read, message in zip(maps, batch.messages(), strict=True):
        fields = message.as_map()
        assert set(read) == set(fields)
        assert all(same(read[name], fields[name]) for name in read)


@given(columns(), st.data())
def test_a_slice_of_a_batch_is_the_slice_of_its_messages(parts, data):
    batch = Batch.of(*parts)
    batch.seal(100, 5)
    start = data.draw(st.integers(0, batch.count - 1))
    stop = data.draw(st.integers(start + 1, batch.count))

    cut = batch.slice(start, stop)

    Batch.check(cut.packed, LARGE, MANY)
    assert (cut.first, cut.next, cut.time_us) == (100 + start, 100 + stop, 5)
    assert same([message.as_map() for message in cut.messages()],
                [message.as_map() for message in batch.messages()[start:stop]])


@given(st.lists(columns(), min_size=1, max_size=4))
def test_batches_of_one_topic_that_are_joined_keep_all_their_messages(parts):
    batches = [Batch.of("a", *rest) for _, *rest in parts]

    joined = Batch.joined(batches)

    Batch.check(joined.packed, LARGE, MANY)
    for batch in (joined, *batches):
        batch.seal(0, 5)
    fields = ("payload", "key", "id", "headers", "expires")
    assert same([[getattr(message, name) for name in fields] for message in joined.messages()],
                [[getattr(message, name) for name in fields] for batch in batches for message in batch.messages()])


@given(columns())
def test_equal_lengths_need_no_column_of_lengths(parts):
    batch = Batch.of(*parts)

    lengths = {len(raw) for raw in batch.raw_payloads}

    assert bool(batch.packed[1] & 1) == (len(lengths) > 1)


@given(columns())
def test_the_flags_say_which_columns_there_are_and_the_soonest_expiry_is_found(parts):
    *_, ids, _, expires = parts

    batch = Batch.of(*parts)

    assert (batch.has_ids, batch.has_expiry) == (ids is not None, expires is not None)
    assert batch.expires == expires
    assert batch.soonest_expiry == min((us for us in expires or () if us is not None), default=NEVER_US)


@given(columns(), st.sampled_from((HAS_EXPIRY, HAS_IDS)))
def test_flags_that_do_not_fit_the_columns_are_refused(parts, flag):
    batch = Batch.of(*parts)
    fields = list(HEADER.unpack_from(batch.packed))
    fields[1] ^= flag

    try:
        Batch.check(with_checksum(fields, batch.packed[HEADER.size:]), LARGE, MANY)
    except InvalidBatch:
        return
    raise AssertionError("a flag that lies was taken")


@given(columns())
def test_every_truncation_is_refused(parts):
    packed = Batch.of(*parts).packed

    for size in range(len(packed)):
        try:
            Batch.check(packed[:size], LARGE, MANY)
        except RequestError:
            continue
        raise AssertionError(f"the first {size} of {len(packed)} bytes were taken")


@given(columns(), st.data())
def test_flipped_bits_behind_the_header_are_always_noticed(parts, data):
    packed = bytearray(Batch.of(*parts).packed)
    for at in data.draw(st.lists(st.integers(HEADER.size - 4, len(packed) - 1), min_size=1, max_size=3, unique=True)):
        packed[at] ^= data.draw(st.integers(1, 255))

    try:
        Batch.check(bytes(packed), LARGE, MANY)
    except RequestError:
        return
    raise AssertionError("a batch with flipped bits was taken")


@given(columns(), st.data())
def test_whatever_is_flipped_in_the_header_is_refused_or_harms_only_this_batch(parts, data):
    packed = bytearray(Batch.of(*parts).packed)
    for at in data.draw(st.lists(st.integers(0, HEADER.size - 1), min_size=1, max_size=3, unique=True)):
        packed[at] = data.draw(st.integers(0, 255))

    read_everything(bytes(packed))


@given(st.one_of(st.binary(max_size=80), st.builds(lambda tail: b"\x01\x00\x00\x01" + tail, st.binary(max_size=80))))
def test_random_bytes_are_refused_or_harm_only_themselves(packed):
    read_everything(packed)


def read_everything(packed):
    """Do all that server and client do with a batch of a stranger; only errors of ours may come out."""
    try:
        batch = Batch.check(packed, LARGE, MANY)
    except ZStreamPubError:
        return
    batch.seal(5, 6)
    assert len(batch.messages()) == len(batch.map_items()) == len(batch.raw_payloads) == batch.count
    for at in range(batch.count):
        assert batch.slice(at, at + 1).count == 1


# Not one value each: cut short, two in one, or the byte that msgpack never uses.
BROKEN = {
    "cut short": VALUES.map(lambda value: msgpack.packb([value])[:-1]).filter(lambda raw: len(raw) > 0),
    "two in one": st.tuples(SCALARS, SCALARS).map(lambda pair: msgpack.packb(pair[0]) + msgpack.packb(pair[1])),
    "reserved": st.just(b"\xc1"),
}


@given(st.sampled_from(sorted(BROKEN)).flatmap(lambda kind: st.lists(
    st.one_of(st.tuples(st.just(False), VALUES.map(msgpack.packb)), st.tuples(st.just(True), BROKEN[kind])),
    min_size=1, max_size=6)))
def test_a_payload_that_is_no_msgpack_value_hurts_only_its_own_message(payloads):
    assume(any(broken for broken, _ in payloads))
    raws = [raw for _, raw in payloads]
    batch = Batch.check(Batch.assemble("a", raws, {}).packed, LARGE, MANY)

    messages = batch.messages()
    maps = [msgpack.unpackb(item) for item in batch.map_items()]

    for (broken, raw), message, fields in zip(payloads, messages, maps, strict=True):
        if broken:
            assert isinstance(message.payload, Undecodable)
            assert message.payload.raw == raw
            assert (fields["payload"], fields["error"]) == (raw, "InvalidPayload")
        else:
            assert same(message.payload, msgpack.unpackb(raw))
            assert "error" not in fields


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_metadata_of_a_stranger_is_refused_or_can_be_read(tail, payload):
    assume(tail and payload)
    good = Batch.assemble("a", [payload], {})
    head = bytearray(good.packed[:HEADER.size])
    body = good.packed[HEADER.size:] + tail
    fields = list(HEADER.unpack(head))
    fields[1], fields[7] = 2, len(tail)

    read_everything(with_checksum(fields, body))


def test_a_stored_batch_whose_bytes_rot_is_found_by_its_checksum():
    batch = Batch.of("a", ["some payload"])
    packed = bytearray(batch.packed)
    packed[-1] ^= 1

    try:
        Batch.parse(bytes(packed)).verify()
    except StoreCorrupt:
        return
    raise AssertionError("the flipped bit was not noticed")


def test_nan_comes_back_as_nan():
    assert math.isnan(Batch.of("a", [math.nan]).payloads[0])


def test_a_batch_is_bytes():
    for stranger in (None, "text", 5, [], bytearray(50)):
        try:
            Batch.check(stranger, LARGE, MANY)
        except InvalidBatch:
            continue
        raise AssertionError(f"{stranger!r} was taken for a batch")
