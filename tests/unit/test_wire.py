"""zerorpc's frames: what is an event, whom an answer is owed, and what a grant is worth."""

import msgpack
import pytest

from zstreampub import wire
from zstreampub.errors import InvalidPayload, MalformedRequest


def packed(header, name="method", args=()):
    return msgpack.packb([header, name, list(args)])


def test_a_request_is_what_zerorpc_sends():
    blob = wire.request(b"id", "method", [1, "two"])

    assert wire.unpack_event(blob) == [{"v": 3, "message_id": b"id"}, "method", [1, "two"]]


def test_an_answer_names_its_channel():
    blob = wire.answer(b"channel", b"mine", wire.OK, wire.pack((5,)))

    assert wire.unpack_event(memoryview(blob)) == [
        {"v": 3, "message_id": b"mine", "response_to": b"channel"}, "OK", [5]]


def test_an_error_never_carries_a_traceback():
    assert msgpack.unpackb(wire.error_args("SlowConsumer", "text")) == ["SlowConsumer", "text", None]


@pytest.mark.parametrize("blob", [
    b"", b"\xc1", b"\x93", bytes(100), msgpack.packb(None), msgpack.packb([]), msgpack.packb([{}, "a"]),
    packed(None), packed([]), packed({}), packed({"message_id": None}), packed({"message_id": 5}),
    packed({"message_id": ""}), packed({"message_id": b"x" * 129}), packed({"response_to": [1]}),
    packed({"response_to": {}}), packed({"response_to": b""}), packed({1: 2}), b"\xdd\xff\xff\xff\xff",
    b"\x91" * 100_000, packed({"message_id": b"a"}) + b"\x00", packed({"message_id": b"a", "response_to": 5})],
    ids=lambda blob: blob[:16].hex() or "empty")
def test_a_frame_that_is_no_event_is_refused(blob):
    with pytest.raises((MalformedRequest, InvalidPayload)):
        wire.unpack_event(blob)


@pytest.mark.parametrize("args", [
    msgpack.packb([{5: 1}]), b"\xdd\x00\x02\x00\x01", msgpack.packb([0] * (wire.MAX_ELEMENTS + 1)), b"\xc1",
    b"\x92\x01", b"\xa2\xff\xff", b"\x91" * 2_000 + b"\xc0"], ids=lambda args: args[:8].hex())
def test_the_sender_hears_of_arguments_that_cannot_be_read(args):
    blob = b"\x93" + msgpack.packb({"message_id": b"mine", "v": 3}) + msgpack.packb("publish") + args

    with pytest.raises(InvalidPayload) as caught:
        wire.unpack_event(blob)

    assert caught.value.reply_to == b"mine"


def test_nobody_is_answered_where_the_frame_belongs_to_an_open_channel():
    blob = b"\x93" + msgpack.packb({"message_id": b"m", "response_to": b"c"}) + msgpack.packb("_zpc_more") + b"\xc1"

    with pytest.raises((MalformedRequest, InvalidPayload)) as caught:
        wire.unpack_event(blob)

    assert caught.value.reply_to is None


@pytest.mark.parametrize("name", [None, 5, b"bytes", [], {}])
def test_the_name_of_an_event_is_text(name):
    with pytest.raises(MalformedRequest) as caught:
        wire.unpack_event(packed({"message_id": b"mine"}, name))

    assert caught.value.reply_to == b"mine"


@pytest.mark.parametrize(("args", "granted"), [
    ([5], 5), ([2**64 - 1], 2**64 - 1), ([0], 0), ([-5], 0), ([True], 0), ([5.0], 0), (["5"], 0), ([None], 0), ([], 0),
    (None, 0), (5, 0), ("5", 0), ({}, 0), ([[5]], 0), ([float("nan")], 0)], ids=str)
def test_a_grant_of_nonsense_grants_nothing(args, granted):
    assert wire.credit(args) == granted
