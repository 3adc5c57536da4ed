"""ZMTP as a state machine: what peers may send, in any pieces, and what they may not."""

import pytest

from tests.unit.zmtp.speaking import GREETING, Hearing, command, frame, hello, message, ready
from zstreampub.zmtp import frames
from zstreampub.zmtp.frames import BrokenProtocol

MOST = 1 << 20


@pytest.fixture
def greeted():
    return Hearing(max_frame_bytes=MOST).feed(hello())


def test_what_we_say_first_is_what_the_protocol_asks_for():
    signature = b"\xff" + bytes(7) + b"\x01\x7f"      # as libzmq has it, by the 1 ZMTP 2 would go on
    assert frames.hello("DEALER") == signature + GREETING[10:] + command(
        b"READY", b"\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00")
    assert frames.ping() == command(b"PING", b"\x00\x00")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_a_message_of_ours_is_an_empty_frame_and_the_blob(size):
    assert frames.frame_head(size) + bytes(size) == message(b"", bytes(size))


@pytest.mark.parametrize("piece", [1, 2, 3, 9, 10, 11, 63, 64, 65, 1000])
def test_the_greeting_may_come_in_any_pieces(piece):
    hearing = Hearing().feed(hello() + message(b"", b"first"), piece)

    assert hearing.inbox.is_ready
    assert hearing.blobs == [b"first"]


def test_nobody_is_ready_before_he_has_said_so():
    hearing = Hearing().feed(GREETING)
    assert not hearing.inbox.is_ready

    hearing.feed(ready())

    assert hearing.inbox.is_ready


@pytest.mark.parametrize("kind, other, fits", [
    ("ROUTER", b"DEALER", True), ("ROUTER", b"REQ", True), ("ROUTER", b"ROUTER", True), ("ROUTER", b"PUB", False),
    ("ROUTER", b"", False), ("DEALER", b"ROUTER", True), ("DEALER", b"REP", True), ("DEALER", b"DEALER", True),
    ("DEALER", b"SUB", False), ("DEALER", b"router", False)])
def test_only_kinds_of_sockets_that_fit_are_ready(kind, other, fits):
    hearing = Hearing(kind)
    if fits:
        assert hearing.feed(hello(other)).inbox.is_ready
    else:
        with pytest.raises(BrokenProtocol, match="kind"):
            hearing.feed(hello(other))


def test_the_names_of_properties_may_be_in_any_case():
    assert Hearing().feed(GREETING + ready(name=b"SOCKET-TYPE")).inbox.is_ready


@pytest.mark.parametrize("rest", [b"", b"\x0b", b"\x0bSocket", b"\x0bSocket-Type", b"\x0bSocket-Type\xff\xff\xff\xff",
                                  b"\xff" * 100])
def test_a_ready_that_makes_no_sense_is_refused(rest):
    with pytest.raises(BrokenProtocol):
        Hearing().feed(GREETING + command(b"READY", rest)).feed(message(b"", b"x"))


@pytest.mark.parametrize("heard, why", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "does not speak ZMTP"),
    (b"\x16\x03\x01\x02\x00", "does not speak ZMTP"),
    (b"\x01\x00", "does not speak ZMTP"),                               # ZMTP 1
    (b"\xff" + bytes(8) + b"\x00", "does not speak ZMTP"),
    (b"\xff" + bytes(7) + b"\x01\x7f\x01", "ZMTP 1"),                   # ZMTP 2
    (b"\xff" + bytes(8) + b"\x7f\x02", "ZMTP 2"),
    (GREETING[:12] + b"PLAIN".ljust(20, b"\0") + bytes(32), "PLAIN"),
    (GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32), "CURVE"),
    (GREETING + command(b"ERROR", b"\x04Away"), "it refuses: Away"),
    (GREETING + message(b"", b"x"), "before READY"),
    (GREETING + message(b"x"), "before READY"),
    (GREETING + message(b""), "before READY"),
    (hello() + b"\x08\x00", "flags"),
    (hello() + b"\xff\x00" + bytes(7), "flags"),
])
@pytest.mark.parametrize("piece", [1, 1000])
def test_who_does_not_speak_as_we_do_is_told_why(heard, why, piece):
    with pytest.raises(BrokenProtocol, match=why):
        Hearing().feed(heard, piece)


def test_later_revisions_of_the_protocol_are_spoken_with():
    assert Hearing().feed(GREETING[:10] + b"\x04" + hello()[11:]).inbox.is_ready


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 257, 8190, 8192, 32_768, 32_769, MOST])
@pytest.mark.parametrize("piece", [7, 1 << 15])
def test_blobs_of_any_size_come_whole_and_in_order(greeted, size, piece):
    blobs = [bytes([number]) * size for number in range(3 if size < MOST else 1)]

    greeted.feed(b"".join(message(b"", blob) for blob in blobs), piece)

    assert greeted.blobs == blobs
    assert greeted.kept_bytes == 0


def test_a_frame_of_the_most_bytes_is_taken_and_one_byte_more_is_refused_by_its_head(greeted):
    head = b"\x01\x00\x02"
    greeted.feed(head + MOST.to_bytes(8, "big") + bytes(MOST))
    assert greeted.blobs == [bytes(MOST)]

    with pytest.raises(BrokenProtocol, match=f"{MOST + 1} bytes"):
        greeted.feed(head + (MOST + 1).to_bytes(8, "big"))


def test_a_small_frame_may_come_with_the_head_of_a_large_one(greeted):
    greeted.feed(b"\x03" + bytes(8) + b"\x02" + (3).to_bytes(8, "big") + b"abc")

    assert greeted.blobs == [b"abc"]


@pytest.mark.parametrize("parts", [(b"",), (b"x",), (b"x", b"y"), (b"", b"x", b"y"), (b"", b"", b"x"), (b"",) * 100,
                                   (b"x" * 300, b"y"), (b"x" * 300,)])
@pytest.mark.parametrize("piece", [1, 1000])
def test_messages_of_another_shape_are_none_and_harm_nobody(greeted, parts, piece):
    greeted.feed(message(*parts) + message(b"", b"good"), piece)

    assert greeted.blobs == [None, b"good"]


def test_a_message_without_end_costs_no_memory(greeted):
    for _ in range(300):
        greeted.feed(frame(b"", more=True) + frame(bytes(100_000), more=True))
        assert greeted.kept_bytes == 0

    assert greeted.feed(frame(b"")).blobs == [None]


def test_commands_may_stand_between_the_frames_of_a_message(greeted):
    greeted.feed(frame(b"", more=True) + command(b"PING", b"\0\0a") + frame(b"blob"))

    assert greeted.blobs == [b"blob"]
    assert greeted.replies == [command(b"PONG", b"a")]


@pytest.mark.parametrize("size", [0, 1, 16, 17, 200])
def test_a_ping_is_answered_with_at_most_16_bytes_of_what_it_brought(greeted, size):
    greeted.feed(command(b"PING", b"\0\0" + b"c" * size))

    assert greeted.replies == [command(b"PONG", b"c" * min(size, 16))]


@pytest.mark.parametrize("heard", [command(b"PONG", b"abc"), command(b"SUBSCRIBE", b"a"), command(b""), b"\x04\x00",
                                   b"\x04\x01\xff", command(b"PIN")])
def test_other_commands_are_passed_over(greeted, heard):
    greeted.feed(heard + message(b"", b"good"))

    assert (greeted.blobs, greeted.replies) == ([b"good"], [])


def test_a_command_of_4096_bytes_is_read_and_a_larger_one_is_refused_by_its_head(greeted):
    greeted.feed(command(b"PING", b"\0\0" + bytes(4096 - 7)))
    assert len(greeted.replies) == 1

    with pytest.raises(BrokenProtocol, match="4097"):
        greeted.feed(b"\x06" + (4097).to_bytes(8, "big"))


def test_strangers_may_not_send_more_than_a_command_before_they_have_shaken_hands():
    with pytest.raises(BrokenProtocol, match="4097"):
        Hearing().feed(GREETING + b"\x02" + (4097).to_bytes(8, "big"))


def test_a_large_frame_costs_a_mebibyte_until_more_of_it_comes():
    hearing = Hearing(max_frame_bytes=1 << 30).feed(hello())

    hearing.feed(b"\x01\x00\x02" + (1 << 30).to_bytes(8, "big") + b"x")
    assert hearing.kept_bytes == 1 << 20

    hearing.feed(bytes(3 << 20))
    assert hearing.kept_bytes <= 8 << 20


def test_the_begin_of_a_small_frame_costs_8_kibibytes(greeted):
    greeted.feed(b"\x01")

    assert greeted.kept_bytes == 8 << 10


def test_blobs_are_views_of_what_was_received_that_stay_good_until_more_is_received(greeted):
    wire = message(b"", b"one") + message(b"", b"two") + frame(b"", more=True) + b"\x00"
    greeted.inbox.room()[:len(wire)] = wire

    views = greeted.inbox.take(len(wire))

    assert [type(view) for view in views] == [memoryview, memoryview]
    assert [bytes(view) for view in views] == [b"one", b"two"]


def test_it_tells_when_the_rest_of_a_large_frame_is_likely_to_be_there(greeted):
    assert not greeted.feed(message(b"", b"small") + b"\x01").inbox.is_short

    greeted.feed(b"\x00\x02" + (100_000).to_bytes(8, "big") + bytes(50_000))
    assert greeted.inbox.is_short

    assert not greeted.feed(bytes(50_000)).inbox.is_short
