"""Content types: what is written in one way is read by whoever sees the header, and by nobody else."""

import datetime
import re
import sys

import pytest

from zstreampub import codecs
from zstreampub.broker import Broker
from zstreampub.errors import InvalidOption, InvalidPayload
from zstreampub.message import Batch, Message
from zstreampub.payload import Undecodable


@pytest.fixture
def pickles(monkeypatch):
    """Have pickle allowed in this test only."""
    monkeypatch.setattr(codecs, "_allowed", set())
    with pytest.warns(RuntimeWarning, match="can run code"):
        yield codecs.allow("pickle")


def batch_of(values, content_type, headers=None):
    values, headers = codecs.encode(values, headers, content_type)
    if isinstance(headers, dict):
        headers = [headers] * len(values)
    batch = Batch.of("a.b", values, headers=headers)
    batch.seal(7, 1_700_000_000_000_000)
    return batch


@pytest.mark.parametrize("name, content_type, value", [
    ("json", "application/json", {"a": [1, 2.5, None, True, "ünï"]}),
    ("cbor", "application/cbor", {"a": b"bytes", 1: datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc)}),
    ("bytes", "application/octet-stream", b"\xff\x00"),
    ("text", "text/plain", "ünï"),
])
def test_a_message_is_bytes_and_a_header_for_others_and_its_value_for_us(name, content_type, value):
    batch = batch_of([value], name)

    message, = batch.messages()
    bare, = batch.maps()

    assert message.payload == value and type(message.payload) is type(value)
    assert message.content_type == content_type == bare["headers"]["content-type"]
    assert type(bare["payload"]) is bytes
    assert Message.of_map(bare) == message


def test_msgpack_is_the_default_and_needs_no_header():
    assert codecs.encode([{"a": 1}], None, "msgpack") == ([{"a": 1}], None)
    assert Batch.of("a", [1]).messages()[0].content_type is None


def test_a_content_type_without_a_codec_takes_bytes_and_leaves_them_as_they_are():
    batch = batch_of([b"\x89PNG"], "image/png", {"of": "a cat"})

    message, = batch.messages()

    assert message.payload == b"\x89PNG"
    assert message.headers == {"of": "a cat", "content-type": "image/png"}
    with pytest.raises(InvalidPayload, match="written as image/png: it is dict, not bytes"):
        batch_of([{}], "image/png")


@pytest.mark.parametrize("content_type", [
    "application/json; charset=utf-8", "Application/JSON", "application/problem+json",
])
def test_parameters_case_and_what_stands_before_a_suffix_do_not_matter(content_type):
    message, = batch_of([{"a": 1}], content_type).messages()

    assert message.payload == {"a": 1}
    assert message.content_type == content_type


def test_each_message_of_a_batch_is_decoded_by_its_own_header():
    headers = [{"content-type": "application/json"}, None, {"content-type": 5}, {"content-type": "application/cbor"}]
    batch = Batch.of("a", [b"[1]", b"[1]", b"[1]", b"\x81\x01"], headers=headers)

    assert [message.payload for message in batch.messages()] == [[1], b"[1]", b"[1]", [1]]


def test_only_bytes_are_decoded():
    batch = Batch.of("a", ["[1]", {"a": 1}], headers=[{"content-type": "application/json"}] * 2)

    assert [message.payload for message in batch.messages()] == ["[1]", {"a": 1}]


@pytest.mark.parametrize("raw, content_type, reason", [
    (b"{", "application/json", "no application/json: JSONDecodeError"),
    (b"\xff", "application/json", "UnicodeDecodeError"),
    (b"[" * 100_000, "application/json", "RecursionError"),
    (b"\x81", "application/cbor", "no application/cbor"),
    (b"\x01\x02", "application/cbor", "more than one value"),
    (b"\x01\xff\x02", "application/cbor", "no application/cbor"),
    (b"\x49", "application/cbor", "no application/cbor"),
    (b"", "application/cbor", "no application/cbor"),
    (b"\xff", "text/plain", "UnicodeDecodeError"),
    (b"\x80\x04N.", "application/x-python-pickle", r"codecs\.allow\('pickle'\)"),
    (b"\x80\x04N.", "application/x-python-pickle; a=b", "runs code"),
    (b"\xc1", "application/x-msgpack", "no application/msgpack"),
])
def test_what_does_not_decode_says_why_and_hurts_no_other_message(raw, content_type, reason):
    headers = [{"content-type": content_type}, {"content-type": "application/json"}]

    broken, whole = Batch.of("a", [raw, b"1"], headers=headers).messages()

    assert type(broken.payload) is Undecodable
    assert broken.payload.raw == raw
    assert re.search(reason, broken.payload.reason)
    assert whole.payload == 1


@pytest.mark.parametrize("content_type, value, complaint", [
    ("json", b"x", "bytes is not JSON serializable"),
    ("json", float("nan"), "application/json: Out of range float"),
    ("json", {"a": [{5: 1}]}, "a key of a map is no text"),
    ("json", "\ud800", "surrogates not allowed"),
    ("cbor", object(), "application/cbor"),
    ("bytes", "text", "it is str, not bytes"),
    ("text", b"bytes", "it is bytes, not text"),
])
def test_what_cannot_be_written_is_refused_at_the_publisher(content_type, value, complaint):
    with pytest.raises(InvalidPayload, match=complaint):
        codecs.encode_one(value, None, content_type)


@pytest.mark.parametrize("content_type, headers, complaint", [
    ("yaml", None, "no codec 'yaml'; there are bytes, cbor, json, msgpack, pickle, text"),
    (5, None, "content_type is text"),
    ("json", {"content-type": "text/plain"}, "give one of them"),
    ("pickle", None, r"codecs\.allow\('pickle'\)"),
])
def test_a_content_type_that_cannot_be_is_an_invalid_option(content_type, headers, complaint):
    with pytest.raises(InvalidOption, match=complaint):
        codecs.encode_one({}, headers, content_type)


@pytest.mark.parametrize("values, headers", [("text", None), ([1], "text"), ([1], ["text"])])
def test_values_and_headers_of_the_wrong_kind_are_refused(values, headers):
    with pytest.raises(InvalidPayload, match="not str"):
        codecs.encode(values, headers, "json")


def test_without_cbor2_a_publisher_and_a_reader_are_told_what_to_install(monkeypatch):
    batch = batch_of([1], "cbor")
    monkeypatch.setitem(sys.modules, "cbor2", None)

    message, = batch.messages()

    assert "pip install 'zstreampub[cbor]'" in message.payload.reason
    with pytest.raises(InvalidOption, match=r"pip install 'zstreampub\[cbor\]'"):
        codecs.encode_one(1, None, "cbor")


def test_an_embedded_broker_writes_and_reads_by_content_type_too():
    with Broker.open("memory:") as broker:
        broker.publish("a", {"n": 1}, content_type="json")
        broker.publish_many("a", [{"n": 2}], content_type="cbor", headers={"h": 1})
        broker.consumers.create("c", "a", start="earliest")

        streamed = list(broker.subscribe("a", start="earliest", until="end"))
        fetched = broker.consumers.fetch("c", 2)
        single = broker.get(0), broker.last("a")
        with pytest.raises(InvalidPayload, match="written as application/json"):
            broker.publish("a", b"x", content_type="json")

    assert [one.payload for one in (*streamed, *fetched, *single)] == [{"n": 1}, {"n": 2}] * 3


# --- pickle, and codecs of one's own --------------------------------------------------------


def test_pickle_is_read_and_written_where_it_was_switched_on(pickles):
    message, = batch_of([{1, 2}], "pickle").messages()

    assert message.payload == {1, 2}
    assert pickles.loads(pickles.dumps({3})) == {3}


def test_no_pickle_is_loaded_where_it_was_not_switched_on(monkeypatch):
    monkeypatch.setattr(codecs, "_allowed", set())
    monkeypatch.setattr(codecs.pickle, "loads", pytest.fail)

    for content_type in ("application/x-python-pickle", "application/x+x-python-pickle", "pickle", "x/y+pickle"):
        Batch.of("a", [b"\x80\x04N."], headers=[{"content-type": content_type}]).messages()

    with pytest.raises(InvalidOption, match="switched on"):
        codecs.allow("json")


def test_a_codec_of_ones_own_is_found_by_its_names(monkeypatch):
    monkeypatch.setattr(codecs, "_known", dict(codecs._known))
    reverse = codecs.Codec("reverse", "application/x-reverse", lambda text: text[::-1].encode(), lambda raw: raw[::-1])

    codecs.register(reverse, "application/x-backwards")
    message, = batch_of(["abc"], "reverse").messages()
    alias, = batch_of(["abc"], "application/x-backwards").messages()

    assert message.payload == alias.payload == b"abc"
    assert message.content_type == "application/x-reverse"
    with pytest.raises(InvalidOption, match="a short name and a content type"):
        codecs.register(codecs.Codec("a/b", "application/x-b", bytes, bytes))
