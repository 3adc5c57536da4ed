"""Compressed batches: what shrinks travels so, what would not does not, and a bomb costs its sender an error."""

import os
import struct
import sys

import msgpack
import pytest
import zstandard

from tests.hand_store import Stage
from zstreampub.broker import Broker
from zstreampub.client import Client
from zstreampub.compression import EXT_TYPE, MAX_PLAIN_BYTES, Zstd
from zstreampub.errors import BatchTooLarge, InvalidBatch, InvalidOption
from zstreampub.feed import BatchFeed
from zstreampub.message import HEADER, Batch
from zstreampub.requests import parse_append, parse_subscribe
from zstreampub.service import Service
from zstreampub.settings import Settings

READINGS = [{"station": f"W{number % 7}", "t": number / 8} for number in range(200)]


@pytest.fixture
def zstd():
    return Zstd(MAX_PLAIN_BYTES)


@pytest.fixture(scope="module")
def broker():
    with Broker.open("memory:", Settings(max_message_bytes=8 << 20)) as broker:
        yield broker


def frame_of(plain, **options):
    return zstandard.ZstdCompressor(**options).compress(plain)


def ext(body, header=bytes(HEADER.size), code=EXT_TYPE):
    return msgpack.ExtType(code, header + body)


def batch_of_size(size):
    """Return a batch of exactly that many bytes, which shrinks well."""
    payloads = [bytes(size - 60)]
    missing = size - Batch.of("t", payloads).size
    return Batch.of("t" + "t" * missing, payloads)


def test_what_is_unpacked_is_what_was_packed(zstd):
    batch = Batch.of("a.b", READINGS)

    packed, squeezed = zstd.unpack(zstd.pack(batch.packed), batch.size)

    assert packed == batch.packed
    assert len(squeezed) < batch.size / 3


@pytest.mark.parametrize("payload", [b"", b"x" * 400, os.urandom(5000), bytes(MAX_PLAIN_BYTES)],
                         ids=["tiny", "small", "random", "large"])
def test_what_is_small_or_large_or_does_not_shrink_is_left_plain(zstd, payload):
    batch = Batch.of("a", [payload])

    assert zstd.pack(batch.packed) is batch.packed
    assert not zstd.parts(batch)


@pytest.mark.parametrize("size, shrinks", [(511, False), (512, True), (1 << 20, True), ((1 << 20) + 1, False)])
def test_a_server_compresses_batches_of_512_bytes_to_a_mebibyte(size, shrinks):
    assert bool(Zstd().parts(batch_of_size(size))) is shrinks


def test_what_has_come_compressed_is_passed_on_so_whatever_its_size(broker):
    batch = batch_of_size(2 << 20)

    order = parse_append(broker, [Zstd(1 << 30).pack(batch.packed)])

    assert broker.zstd.parts(order.append.batches[0])


def test_a_batch_is_compressed_once_and_its_header_is_the_sealed_one(zstd):
    batch = Batch.of("a", READINGS)
    zstd.parts(batch)
    batch.seal(17, 5)

    blob = b"".join(zstd.parts(batch))

    assert zstd.parts(batch)[2] is batch.squeezed
    assert zstd.unpack(msgpack.unpackb(blob), batch.size)[0] == batch.packed


def test_a_feed_sends_what_shrinks_as_ext_and_the_rest_as_bytes(zstd):
    stage = Stage()
    stage.publish(("a", READINGS, None))
    stage.publish(("a", [1], None))
    stage.store.settle()
    feed = BatchFeed(stage.broker, stage.subscribe("a", start=0).subscription, zstd)
    stage.store.settle()

    greeting, item = msgpack.unpackb(feed.greeting(5.0)), msgpack.unpackb(b"".join(feed.next_item()))

    number, compressed, plain = item
    assert (greeting["compression"], number) == ("zstd", 1)
    assert Batch.parse(zstd.unpack(compressed, 1 << 20)[0]).payloads == READINGS
    assert Batch.parse(plain).payloads == [1]


def test_an_item_is_bounded_by_what_it_unpacks_to(zstd):
    stage = Stage()
    for _ in range(40):
        stage.publish(("a", [bytes(20_000)], None))
    stage.store.settle()
    feed = BatchFeed(stage.broker, stage.subscribe("a", start=0).subscription, zstd)
    stage.store.settle()

    _, *parts = msgpack.unpackb(b"".join(feed.next_item()))

    assert len(parts) == 7      # 128 KiB of them, not of what they were compressed to


# --- what a server takes -------------------------------------------------------------------------


def test_an_append_takes_plain_and_compressed_batches_and_keeps_the_compressed_form(zstd, broker):
    batch = Batch.of("a", READINGS)
    part = zstd.pack(batch.packed)

    order = parse_append(broker, [batch.packed, part])

    first, second = order.append.batches
    assert first.packed == second.packed == batch.packed
    assert (first.squeezed, second.squeezed) == (None, part.data[HEADER.size:])


def test_what_one_append_unpacks_to_is_bounded_at_the_byte(zstd, broker):
    part = zstd.pack(batch_of_size(MAX_PLAIN_BYTES).packed)
    assert zstd.plain_size(part) == MAX_PLAIN_BYTES
    half = zstd.pack(batch_of_size(MAX_PLAIN_BYTES // 2).packed)
    byte_more = Zstd(1 << 30).pack(batch_of_size(MAX_PLAIN_BYTES // 2 + 1).packed)
    assert len(part.data) < 1000

    assert parse_append(broker, [part]).append.size == parse_append(broker, [half, half]).append.size == MAX_PLAIN_BYTES
    for parts in ([Zstd(1 << 30).pack(batch_of_size(MAX_PLAIN_BYTES + 1).packed)], [half, byte_more], [half] * 1024):
        with pytest.raises(InvalidBatch, match="Send it plain, or in parts"):
            parse_append(broker, parts)


def test_a_compressed_batch_may_not_be_larger_than_a_batch_may_be(zstd):
    with Broker.open("memory:", Settings(max_batch_bytes=2048, max_message_bytes=2048)) as small:
        assert parse_append(small, [zstd.pack(batch_of_size(2048).packed)]).append.size == 2048
        with pytest.raises(InvalidBatch, match="at most 2048 bytes plain"):
            parse_append(small, [zstd.pack(batch_of_size(2049).packed)])


def lying():
    """Return a frame that says 1,000 bytes and holds 100,000."""
    frame = bytearray(frame_of(bytes(100_000)))
    whole = struct.pack("<I", 100_000)
    at = frame.index(whole)
    frame[at:at + 4] = struct.pack("<I", 1000)
    return bytes(frame)


@pytest.mark.parametrize("part, complaint", [
    (ext(frame_of(bytes(1000)), code=2), "of type 1"),
    (ext(b""), "of type 1"),
    (ext(b"junkjunk"), "no zstd frame"),
    (ext(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))), "states how large"),
    (ext(frame_of(bytes(1000))[:-1]), "is broken"),
    (ext(frame_of(bytes(1000)) + b"x"), "is broken"),
    (ext(frame_of(bytes(1000)) * 2), "is broken"),
    (ext(lying()), "is broken"),
    (ext(frame_of(bytes(1000))), "format version 0"),
], ids=range(9))
def test_what_is_no_compressed_batch_is_refused(broker, part, complaint):
    with pytest.raises(InvalidBatch, match=complaint):
        parse_append(broker, [part])


def test_a_flipped_bit_in_what_was_compressed_is_found(zstd, broker):
    part = zstd.pack(Batch.of("a", READINGS).packed)
    body = bytearray(part.data)

    for at in range(HEADER.size, len(body), 7):
        body[at] ^= 1
        with pytest.raises((InvalidBatch, BatchTooLarge)):
            parse_append(broker, [msgpack.ExtType(EXT_TYPE, bytes(body))])
        body[at] ^= 1


# --- where it is not there -----------------------------------------------------------------------


def test_without_the_library_a_server_is_plain_and_a_client_that_asks_for_it_is_told(monkeypatch):
    part = Zstd().pack(Batch.of("a", READINGS).packed)
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with Broker.open("memory:") as plain:
        assert Service(plain).about()["compressions"] == []
        with pytest.raises(InvalidBatch, match="takes no compressed batches"):
            parse_append(plain, [part])
    with pytest.raises(InvalidOption, match=r"pip install 'zstreampub\[compression\]'"):
        Client("tcp://127.0.0.1:1", compression="zstd")


def test_a_client_says_what_compressions_there_are():
    with pytest.raises(InvalidOption, match="compression is 'zstd' or None, not 'gzip'"):
        Client("tcp://127.0.0.1:1", compression="gzip")


@pytest.mark.parametrize("options, form", [
    ({"format": "batch", "compression": ["zstd"]}, "batch+zstd"),
    ({"format": "batch", "compression": ["br", "zstd"], "consumer": "c"}, "batch+zstd"),
    ({"format": "batch", "compression": ["br"]}, "batch"),
    ({"format": "batch", "compression": []}, "batch"),
    ({"format": "batch"}, "batch"),
    ({"format": "map"}, "map"),
])
def test_a_subscription_is_compressed_only_if_its_client_reads_that(options, form):
    assert parse_subscribe("a", options)[0] == form


@pytest.mark.parametrize("options", [{"compression": ["zstd"]}, {"compression": "zstd", "format": "batch"}])
def test_compression_is_a_list_and_for_batches(options):
    with pytest.raises(InvalidOption, match="compression is a list"):
        parse_subscribe("a", options)
