"""What people type: sizes, durations, retention rules, starts and topic templates."""

from datetime import datetime, timezone

import pytest

from zstreampub.cli import units
from zstreampub.cli.template import Template
from zstreampub.settings import Retention


@pytest.mark.parametrize("text, size", [
    ("4096", 4096), ("1_000", 1000), ("64K", 65_536), ("64k", 65_536), ("2 MiB", 2 << 20), ("2MB", 2 << 20),
    ("1.5G", 3 << 29), ("1T", 1 << 40), ("7b", 7),
])
def test_sizes_are_bytes_or_powers_of_1024(text, size):
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1P", "1,5G", "nan", "1e3", "0x10"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 64M"):
        units.parse_bytes(text)


@pytest.mark.parametrize("text, seconds", [
    ("5", 5), ("0.5", 0.5), (".5", 0.5), ("200ms", 0.2), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("1w", 604_800),
])
def test_durations_are_seconds_or_have_a_unit(text, seconds):
    assert units.parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "d", "-1", "1y", "inf", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 10m"):
        units.parse_seconds(text)


@pytest.mark.parametrize("text, rule", [
    ("flights.>:age=7d,bytes=2G,messages=1000000", Retention("flights.>", 7 * 86_400.0, 2 << 30, 1_000_000)),
    (">:bytes=1K", Retention(">", None, 1024, None)),
    ("host.*.load: age=90 , messages=5", Retention("host.*.load", 90.0, None, 5)),
    ("urn:x.y:age=1", Retention("urn:x.y", 1.0)),
    ("kv.>:newest_per_key", Retention("kv.>", newest_per_key=True)),
    ("kv.>: newest_per_key ,age=7d", Retention("kv.>", 7 * 86_400.0, newest_per_key=True)),
])
def test_a_retention_rule_is_a_pattern_and_its_limits(text, rule):
    assert units.parse_retention(text) == rule


@pytest.mark.parametrize("text, reason", [
    ("flights.>", "PATTERN:LIMIT=VALUE"),
    ("a..b:age=1d", "empty token"),
    (":age=1d", "1 to 255 bytes"),
    ("a:b", "'b' is no limit"),
    ("a:size=5", "age=7d, bytes=2G and messages=1000000"),
    ("a:", "'' is no limit"),
    ("a:age=soon", "age: 'soon' is no duration"),
    ("a:bytes=", "bytes: '' is no size"),
    ("a:messages=1.5", "no number of messages"),
    ("a:messages=0", "more than 0"),
    ("a:age=1d,age=2d", "age twice"),
    ("a:newest_per_key=1", "newest_per_key has no value"),
    ("a:newest_per_key,newest_per_key", "newest_per_key twice"),
])
def test_a_wrong_retention_rule_is_refused_with_its_reason(text, reason):
    with pytest.raises(ValueError, match=reason):
        units.parse_retention(text)


@pytest.mark.parametrize("text, start", [
    ("new", "new"), ("earliest", "earliest"), ("last", "last"), ("last:10", {"last": 10}), ("0", 0), ("17", 17),
    ("time:1700000000.5", {"time": 1_700_000_000.5}),
    ("time:2024-05-01T12:00:00Z", {"time": datetime(2024, 5, 1, 12, tzinfo=timezone.utc).timestamp()}),
    ("time:2024-05-01T14:00:00+02:00", {"time": datetime(2024, 5, 1, 12, tzinfo=timezone.utc).timestamp()}),
    ("time:2024-05-01", {"time": datetime(2024, 5, 1).timestamp()}),
])
def test_a_start_is_a_word_an_offset_a_count_or_a_time(text, start):
    assert units.parse_start(text) == start


@pytest.mark.parametrize("text", ["", "old", "-1", "last:", "last:x", "time", "time:", "time:noon", "1.5", "new:1"])
def test_a_wrong_start_is_refused(text):
    with pytest.raises(ValueError, match=r"is no (start|time)"):
        units.parse_start(text)


def test_a_start_can_be_so_long_ago(monkeypatch):
    monkeypatch.setattr("zstreampub.cli.units.time.time", lambda: 10_000.0)

    assert units.parse_start("time:-10m") == {"time": 9_400.0}
    assert units.parse_start("time:-0.5") == {"time": 9_999.5}


@pytest.mark.parametrize("text", ["time:-", "time:-soon", "time:--1", "time:-10m ago"])
def test_a_wrong_while_ago_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 10m"):
        units.parse_start(text)


@pytest.mark.parametrize("text", ["redis:x", "s/log", "lmdb:", "memory:x", "memory", ""])
def test_what_names_no_store_is_refused(text):
    with pytest.raises(ValueError, match="names no store: write lmdb:FOLDER"):
        units.parse_store(text)


def test_until_is_the_end_or_an_offset():
    assert units.parse_until("end") == "end"
    assert units.parse_until("12") == 12
    with pytest.raises(ValueError, match="'end'"):
        units.parse_until("now")


@pytest.mark.parametrize("template, value, topic", [
    ("flights.{origin}.{destination}", {"origin": "SFO", "destination": "LAX"}, "flights.SFO.LAX"),
    ("a.{b.c}", {"b": {"c": 7}}, "a.7"),
    ("a.x-{b}-y", {"b": "ü"}, "a.x-ü-y"),
    ("fixed.topic", {}, "fixed.topic"),
    ("{topic}", {"topic": "a.b.c"}, "a.b.c"),
])
def test_a_template_takes_its_tokens_from_the_fields(template, value, topic):
    assert Template(template).fill(value) == topic


@pytest.mark.parametrize("value, reason", [
    ({}, "no field 'b'"),
    ([1], "is a list, no map, so there is no field 'b'"),
    ({"b": None}, "is null"),
    ({"b": True}, "is true or false"),
    ({"b": 1.5}, "is a fraction"),
    ({"b": {}}, "is a map"),
    ({"b": ""}, "not one token"),
    ({"b": "x.y"}, "not one token"),
    ({"b": "x y"}, "white space"),
    ({"b": ">"}, "wildcard"),
    ({"b": "x" * 300}, "255 bytes"),
    ({"b": "\ud800"}, "UTF-8"),
])
def test_a_field_that_makes_no_token_is_the_lines_fault(value, reason):
    template = Template("a.{b}")

    with pytest.raises(ValueError, match=reason):
        template.fill(value)


@pytest.mark.parametrize("template", ["a.{}", "a.{b", "a.b}", "a..{b}", "{a}.*", "", "a.{b}.>", "a b.{c}"])
def test_a_template_that_never_gives_a_topic_is_refused_at_once(template):
    with pytest.raises(ValueError):
        Template(template)
