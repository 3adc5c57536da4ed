"""Topic frames as topics, and payloads as frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstreampub.receive.frames import frame_of, frames_of, to_publish, topic_of
from zstreampub.topics import check_topic


@pytest.mark.parametrize(("frame", "topic"), [
    (b"orders.eu", "orders.eu"), (b"a b", "a%20b"), (b"", "%"), (b"a..b", "a.%.b"), (b"50%", "50%25"),
    (b"\xff", "%FF"), ("tür".encode(), "tür"), (b"*.>", "%2A.%3E"), (b"$SYS.up", "%24SYS.up"),
])
def test_what_a_topic_cannot_hold_is_escaped(frame, topic):
    assert topic_of(frame) == topic


@given(st.binary(max_size=60), st.sampled_from([None, "in", "in.deep"]))
def test_every_topic_frame_can_be_read_back(frame, prefix):
    topic = topic_of(frame, prefix)

    assert topic is None or frame_of(check_topic(topic), prefix) == frame


def test_more_tokens_than_a_topic_has_are_one():
    frame = b".".join([b"t"] * 50)

    topic = topic_of(frame, "in")

    assert len(topic.split(".")) == 32
    assert frame_of(topic, "in") == frame


def test_a_frame_that_is_too_long_for_a_topic_stays_in_front_of_the_payload():
    assert to_publish([b"x" * 256, b"1"], "in", True) == ("in.%too-long", [b"x" * 256, b"1"])


@pytest.mark.parametrize(("frames", "has_topic_frame", "published"), [
    (b"1", False, ("in", b"1")),
    ([b"a", b"1"], False, ("in", [b"a", b"1"])),
    (b"a", True, ("in.a", b"")),
    ([b"a", b"1"], True, ("in.a", b"1")),
    ([b"a", b"1", b"2"], True, ("in.a", [b"1", b"2"])),
])
def test_one_frame_is_bytes_and_several_are_a_list(frames, has_topic_frame, published):
    assert to_publish(frames, "in", has_topic_frame) == published


@pytest.mark.parametrize(("payload", "frames"), [
    (b"1", [b"1"]), ("ü", ["ü".encode()]), ([b"1", b"2"], [b"1", b"2"]), ({"a": [1, b"x"]}, [b'{"a": [1, "x"]}']),
    ([], [b"[]"]), ([1], [b"[1]"]), (None, [b"null"]),
])
def test_payloads_become_frames(payload, frames):
    assert frames_of(payload) == frames
