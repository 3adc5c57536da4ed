"""ZMTP: what is said comes out however it is cut, and no bytes of a stranger do more than end his connection."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.zmtp.speaking import Hearing, command, hello, message
from zstreampub.zmtp.frames import BrokenProtocol

MOST = 100_000
SIZES = st.one_of(st.integers(0, 300), st.sampled_from((8_190, 8_192, 32_767, 32_768, 40_000, MOST)))
BLOBS = st.builds(lambda size, byte: bytes([byte]) * size, SIZES, st.integers(0, 255))
PIECES = st.lists(st.one_of(st.integers(1, 12), st.integers(1, 40_000)), min_size=1, max_size=8)

OURS = BLOBS.map(lambda blob: (message(b"", blob), [blob]))
OTHERS = st.lists(st.binary(max_size=20), min_size=1, max_size=4).filter(
    lambda parts: len(parts) != 2 or parts[0]).map(lambda parts: (message(*parts), [None]))
COMMANDS = st.builds(command, st.sampled_from((b"PING", b"PONG", b"X")), st.binary(max_size=300)).map(
    lambda said: (said, []))


def feed(hearing, heard, pieces):
    """Feed *heard* in *pieces*, over and over; the last rest in one."""
    at = 0
    for _ in range(50):
        for piece in pieces:
            hearing.feed(heard[at:at + piece])
            at += piece
    return hearing.feed(heard[at:])


@given(said=st.lists(st.one_of(OURS, OTHERS, COMMANDS), max_size=12), pieces=PIECES)
def test_messages_come_out_as_they_were_put_in_however_they_are_cut(said, pieces):
    hearing = Hearing(max_frame_bytes=MOST)

    feed(hearing, hello() + b"".join(heard for heard, _ in said), pieces)

    assert hearing.blobs == [blob for _, blobs in said for blob in blobs]
    assert hearing.kept_bytes == 0


@st.composite
def garbage(draw):
    """What begins well, as far as it goes, and is then cut, changed or nonsense."""
    heard = bytearray(draw(st.sampled_from((b"", hello()[:64], hello()))))
    for part in draw(st.lists(st.one_of(OURS.map(lambda pair: pair[0]), COMMANDS.map(lambda pair: pair[0]),
                                        st.binary(max_size=40)), max_size=6)):
        heard += part
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3)):
        if place < len(heard):
            heard[place] = byte
    return bytes(heard)


@given(heard=garbage(), pieces=PIECES)
def test_no_garbage_does_more_than_end_the_connection_or_is_kept_for_nothing(heard, pieces):
    hearing = Hearing(max_frame_bytes=MOST)

    try:
        feed(hearing, heard, pieces)
    except BrokenProtocol as error:
        assert str(error)

    assert hearing.kept_bytes <= MOST + 9
    assert all(len(reply) <= 2 + 1 + 4 + 16 for reply in hearing.replies)
