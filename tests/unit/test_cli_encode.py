"""Messages as text: JSON that every reader takes, and lines that cannot drive a terminal."""

import json

import msgpack
import pytest

from zstreampub.cli import encode
from zstreampub.message import Message
from zstreampub.payload import Undecodable


@pytest.mark.parametrize("value, shown", [
    ({"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}),
    (b"text", "text"),
    (b"\xff\x00", {"base64": "/wA="}),
    ({b"k\xff": b"v"}, {"k\\xff": "v"}),
    (float("nan"), "NaN"),
    ([float("inf"), -float("inf")], ["Infinity", "-Infinity"]),
    (2 ** 64 - 1, 2 ** 64 - 1),
    (msgpack.Timestamp(5, 500_000_000), 5.5),
    (msgpack.ExtType(7, b"x"), {"extension": 7, "base64": "eA=="}),
    (Undecodable(b"\xc1", "no such type"), {"error": "no such type", "base64": "wQ=="}),
    ("ünï\n", "ünï\n"),
])
def test_json_has_a_place_for_everything_that_msgpack_carries(value, shown):
    line = encode.to_json(value)

    assert json.loads(line, parse_constant=pytest.fail) == shown
    assert "\n" not in line


def test_a_json_line_has_the_fields_of_the_map_form():
    message = Message("a.b", 5, 1.5, b"\xff", key=b"k", headers={"h": 1})

    line = encode.message_json(message)

    assert json.loads(line) == {"topic": "a.b", "offset": 5, "time": 1.5, "payload": {"base64": "/w=="},
                                "key": "k", "headers": {"h": 1}}


def test_text_for_a_terminal_has_its_control_characters_escaped():
    message = Message("a.b", 5, 1.5, "red \x1b[31m bell \x07 \x9b2J \u202e", key="k\r")

    line = encode.Lines(colour=False)(message)

    assert line.isprintable()
    assert "\\x1b[31m" in line and "\\x9b2J" in line and "k\\r" in line


def test_colours_are_ours_alone():
    line = encode.Lines(colour=True)(Message("a.b", 5, 1.5, "x\x1b[0m", id="i", headers={"h": b"v"}))

    assert line.count("\x1b[0m") == line.count("\x1b[2m") + line.count("\x1b[36m")
    assert '{"id": "i", "headers": {"h": "v"}}' in line


@pytest.mark.parametrize("payload, raw", [
    ("text\n", b"text\n"), (b"\xff", b"\xff"), ({"a": 1}, b'{"a": 1}'), (None, b"null"),
    (Undecodable(b"\xc1", "broken"), b"\xc1"),
])
def test_the_payload_format_gives_text_and_bytes_as_they_are(payload, raw):
    assert encode.payload_text(payload) == raw
