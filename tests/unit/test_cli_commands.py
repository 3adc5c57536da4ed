"""What the commands ask of the client, what they print, and their exit codes; the client is an imitation."""

import gzip
import json
import sys

import pytest

from tests.unit.fake_client import sealed
from zstreampub import errors


@pytest.fixture
def stdin(monkeypatch, tmp_path):
    def give(content):
        path = tmp_path / "stdin"
        path.write_bytes(content)
        monkeypatch.setattr(sys, "stdin", path.open())
    return give


def gap(first, next, count, why):
    return {"control": "gap", "first": first, "next": next, "count": count, "why": why}


# --- publish -----------------------------------------------------------------------

@pytest.mark.parametrize("flags, text, payload", [
    ([], "text", "text"), (["--json-payload"], '{"a": [1]}', {"a": [1]}), (["--bytes"], "ü", "ü".encode()),
    (["--json-payload"], "null", None), ([], "", ""),
])
def test_publish_prints_the_offset_of_its_one_message(run, client, flags, text, payload):
    code, out, err = run("publish", *flags, "a.b", text, "--key", "k", "--header", "h=1=2")

    assert (code, out, err) == (0, "0\n", "")
    assert client.published == [("a.b", payload, "k", {"h": "1=2"})]
    assert client.closed


@pytest.mark.parametrize("flags, text, payload, content_type", [
    (["--content-type", "json"], '{"a": 1}', b'{"a":1}', "application/json"),
    (["--content-type", "application/ld+json", "--json-payload"], '"hi"', b'"hi"', "application/ld+json"),
    (["--content-type", "image/png"], "x", b"x", "image/png"),
    (["--content-type", "text"], "hi", b"hi", "text/plain"),
    (["--content-type", "image/png", "--bytes"], "x", b"x", "image/png"),
])
def test_publish_writes_the_payload_as_the_content_type_says(run, client, flags, text, payload, content_type):
    run("publish", *flags, "a.b", text, "--header", "h=1")

    assert client.published == [("a.b", payload, None, {"h": "1", "content-type": content_type})]


def test_publish_writes_each_line_as_the_content_type_says(run, client, stdin):
    stdin(b'{"a": 1}\n')

    run("publish", "--json", "t.{a}", "--content-type", "json")

    assert client.published == [("t.1", b'{"a":1}', None, {"content-type": "application/json"})]


def test_what_is_typed_as_json_has_to_be_json(run, client):
    code, _, err = run("publish", "--content-type", "json", "a.b", "hi")

    assert code == 2 and "no JSON" in err and not client.published


def test_publish_refuses_a_content_type_that_nobody_knows(run, client):
    code, _, err = run("publish", "--content-type", "yaml", "a.b", "x")

    assert code == 2 and "there are bytes, cbor, json" in err and not client.published


def test_publish_takes_the_address_and_the_timeout(run, client):
    run("publish", "a", "b", "--address", "tcp://127.0.0.1:1", "--timeout-s", "200ms")

    assert (client.address, client.timeout_s) == ("tcp://127.0.0.1:1", 0.2)


def test_publish_takes_a_payload_from_stdin(run, client, stdin):
    stdin(b"two\nlines\n")

    run("publish", "a.b", "-")

    assert client.published == [("a.b", "two\nlines\n", None, None)]


def test_publish_lines_sends_each_line_as_text_also_an_empty_one(run, client, stdin):
    stdin(b"one\n\nthree")

    code, out, err = run("publish", "--lines", "a.b")

    assert [payload for _, payload, _, _ in client.published] == ["one", "", "three"]
    assert (code, out) == (0, "")
    assert err.startswith("zstreampub: 3 messages in ") and "offsets [0, 3)" in err


@pytest.mark.parametrize("flags", [("--lines", "a.b"), ("--json", "a.b")])
def test_a_line_over_the_limit_is_named_and_the_next_is_published(run, client, stdin, monkeypatch, flags):
    monkeypatch.setattr("zstreampub.cli.source.MAX_LINE_BYTES", 1000)
    monkeypatch.setattr("zstreampub.cli.source._PIECE", 100)
    stdin(b"1\n" + b"2" * 1001 + b"\n3\n")

    code, _, err = run("publish", *flags)

    assert code == 1
    assert [str(payload) for _, payload, _, _ in client.published] == ["1", "3"]
    assert "stdin:2: the line has more than 64 MiB" in err and "1 line skipped" in err


def test_publish_json_fills_the_topic_the_key_and_the_payload_from_the_fields(run, client, tmp_path):
    path = tmp_path / "flights"
    path.write_bytes(gzip.compress(b'{"o": "SFO", "d": "LAX", "n": 7}\n\n{"o": "OAK", "d": "SFO", "n": 8}\n'))

    code, *_ = run("publish", "--json", "flights.{o}.{d}", "--key", "o", "--payload-field", "n", str(path))

    assert code == 0
    assert client.published == [("flights.SFO.LAX", 7, "SFO", None), ("flights.OAK.SFO", 8, "OAK", None)]


def test_bad_lines_are_named_and_counted_and_the_others_are_published(run, client, stdin):
    client.refuse["t.no"] = errors.LimitExceeded("Too many topics.")
    stdin(b'{"a": "x"}\nnonsense\n{"b": 1}\n\xff\n{"a": "no"}\n{"a": "y"}\n')

    code, _, err = run("publish", "--json", "t.{a}")

    assert code == 1
    assert [topic for topic, *_ in client.published] == ["t.x", "t.y"]
    for place in ("stdin:2: no JSON", "stdin:3: there is no field 'a'", "stdin:4: not UTF-8",
                  "stdin:5: Too many topics"):
        assert f"zstreampub: {place}" in err
    assert "4 lines skipped" in err.splitlines()[-1]


def test_with_stop_the_first_bad_line_is_the_last(run, client, stdin):
    stdin(b'{"a": "x"}\nnonsense\n' + b'{"a": "y"}\n' * 50_000)

    code, _, err = run("publish", "--json", "t.{a}", "--stop", "--batch", "1")

    assert code == 1
    assert len(client.published) < 10
    assert "1 line skipped" in err


def test_many_bad_lines_do_not_flood_the_screen(run, client, stdin):
    stdin(b"nonsense\n" * 1000)

    code, _, err = run("publish", "--json", "t.{a}")

    assert code == 1
    assert err.count("\n") == 22 and "1,000 lines skipped" in err


def test_a_broken_file_is_counted_and_the_next_one_is_read(run, client, tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    broken.write_bytes(gzip.compress(b'{"a": "x"}\n' * 1000)[:-8])
    whole.write_bytes(b'{"a": "y"}\n')

    code, _, err = run("publish", "--json", "t.{a}", str(broken), str(whole))

    assert code == 1
    assert ("t.y", {"a": "y"}, None, None) in client.published
    assert "gzip that ends too early" in err


@pytest.mark.parametrize("error, code", [
    (errors.InvalidTopic("Refused."), 1), (errors.ConnectionLost("Gone."), 3), (errors.RequestTimeout("Late."), 3),
    (errors.StoreFull("Full."), 4), (errors.InternalError("Ours."), 1), (RuntimeError("odd"), 70),
    (KeyboardInterrupt(), 130), (PermissionError(13, "Permission denied"), 1),
])
def test_the_exit_code_says_who_must_act_and_stderr_why_in_one_line(run, client, error, code):
    client.refuse["a"] = error

    got, out, err = run("publish", "a", "b")

    assert (got, out) == (code, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("error, code", [(errors.ConnectionLost("Gone."), 3), (errors.StoreFull("Full."), 4)])
def test_what_is_not_a_lines_fault_ends_the_run_with_its_code_and_the_account(run, client, stdin, error, code):
    client.refuse["t.no"] = error
    stdin(b'{"a": "x"}\n{"a": "no"}\n{"a": "y"}\n')

    got, _, err = run("publish", "--json", "t.{a}")

    assert got == code
    assert "message" in err.splitlines()[-2] and str(error) in err.splitlines()[-1]


@pytest.mark.parametrize("args, reason", [
    ([], "TOPIC and PAYLOAD"), (["a"], "TOPIC and PAYLOAD"), (["a", "b", "c"], "TOPIC and PAYLOAD"),
    (["--lines", "a", "--json", "b"], "exclude"), (["--bytes", "--json-payload", "a", "b"], "exclude"),
    (["--lines", "a.*"], "wildcard"), (["--json", "a.{}"], "name a field"),
    (["--lines", "a", "/nowhere"], "No such file"), (["--header", "h", "a", "b"], "NAME=VALUE"),
    (["--json-payload", "a", "{"], "no JSON"), (["--batch", "0", "a", "b"], "0"),
])
def test_wrong_use_of_publish_is_told(run, client, args, reason):
    code, _, err = run("publish", *args)

    assert code == 2 and reason in err and err.count("\n") == 1
    assert client.published == []


# --- subscribe -------------------------------------------------------------------------

def test_subscribe_prints_json_lines_when_piped(run, client):
    client.batches = [sealed(3, "x", {"n": float("nan")}), sealed(5, b"\xff")]

    code, out, err = run("subscribe", "a.>")

    assert code == 0 and err == ""
    assert [json.loads(line) for line in out.splitlines()] == [
        {"topic": "a.b", "offset": 3, "time": 1.5, "payload": "x"},
        {"topic": "a.b", "offset": 4, "time": 1.5, "payload": {"n": "NaN"}},
        {"topic": "a.b", "offset": 5, "time": 1.5, "payload": {"base64": "/w=="}}]


def test_subscribe_passes_its_options_on(run, client):
    run("subscribe", "a.>", "b", "--start", "last:3", "--until", "end", "--policy", "block", "--max-bytes", "1M",
        "--max-messages", "7", "--block-timeout-s", "2s", "--name", "me", "--epoch", "e")

    patterns, options = client.asked
    assert patterns == ["a.>", "b"]
    del options["on_gap"], options["on_control"]
    assert options == {"start": {"last": 3}, "until": "end", "policy": "block", "max_bytes": 1 << 20,
                       "max_messages": 7, "block_timeout_s": 2.0, "name": "me", "epoch": "e"}


def test_subscribe_passes_filters_on_in_their_order(run, client, monkeypatch):
    run("subscribe", "a", "--filter", "payload.n >= 2", "--filter", '{"every": 3}')
    assert list(client.asked[1]["filters"]) == [{"where": {"payload.n": {"ge": 2}}}, {"every": 3}]

    monkeypatch.setenv("ZSTREAMPUB_FILTERS", "payload.n >= 2")
    run("subscribe", "a")
    assert list(client.asked[1]["filters"]) == [{"where": {"payload.n": {"ge": 2}}}]

    code, _, err = run("subscribe", "a", "--filter", "n >= 2")
    assert code == 2 and "There is no field 'n'" in err


def test_subscribe_without_patterns_takes_everything(run, client):
    run("subscribe")

    assert client.asked[0] == ">"


def test_count_ends_in_the_middle_of_a_batch(run, client):
    client.batches = [sealed(0, "a", "b"), sealed(2, "c", "d"), RuntimeError("read too far")]

    code, out, _ = run("subscribe", "--count", "3", "--format", "payload")

    assert (code, out) == (0, "a\nb\nc\n")


def test_gaps_are_told_on_stderr(run, client):
    client.batches = [sealed(0, "a"), gap(1, 1001, 1000, "retention"), gap(1001, 1005, None, "drop"),
                      gap(1005, 1006, 1, "expired")]

    code, out, err = run("subscribe", "--format", "payload")

    assert (code, out) == (0, "a\n")
    assert err.splitlines() == ["zstreampub: gap: 1,000 messages in [1, 1001) will not come (retention)",
                                "zstreampub: gap: an unknown number of messages in [1001, 1005) will not come (drop)",
                                "zstreampub: gap: 1 message in [1005, 1006) will not come (expired)"]


def test_a_subscription_that_was_ended_is_exit_code_1(run, client):
    client.batches = [sealed(0, "a"), errors.SlowConsumer("Too slow.", resume=1)]

    code, out, err = run("subscribe", "--format", "text")

    assert code == 1 and "a.b  a" in out and "SlowConsumer" in err


# --- one message, one subscription ----------------------------------------------------------

@pytest.mark.parametrize("args", [["get", "4"], ["last", "a.b"]])
def test_one_message_is_printed_as_subscribe_prints_it(run, client, args):
    client.batches = [sealed(3, "x", "y")]

    assert run(*args) == (0, '{"topic": "a.b", "offset": 4, "time": 1.5, "payload": "y"}\n', "")
    assert run(*args, "--format", "payload") == (0, "y\n", "")
    assert client.closed


@pytest.mark.parametrize("args, sentence", [
    (["get", "7"], "there is no message at offset 7; the log keeps [3, 9)"),
    (["last", "c"], "there is no message of 'c'"),
    (["last", "a.b", "--key", "k"], "there is no message of 'a.b' with the key 'k'"),
    (["unsubscribe", "z"], "there is no subscription 'z'; 'zstreampub subscriptions' lists them"),
])
def test_what_is_not_there_is_exit_code_1_and_a_sentence(run, client, args, sentence):
    client.batches = [sealed(3, "x", "y")]

    assert run(*args) == (1, "", f"zstreampub: {sentence}\n")


@pytest.mark.parametrize("offset", ["-1", "x", "1.5"])
def test_get_takes_an_offset(run, offset):
    assert run("get", "--", offset)[0] == 2


def test_unsubscribe_is_quiet_when_it_has_ended_one(run):
    assert run("unsubscribe", "x") == (0, "", "")


# --- the lists --------------------------------------------------------------------------

@pytest.mark.parametrize("command, rows", [
    ("topics", [{"topic": "a.b", "messages": 2, "bytes": 100, "next": 5}]),
    ("subscriptions", [{"id": "x", "patterns": ["a.>"], "policy": "spill", "state": "live", "position": 4, "lag": 0}]),
    ("stats", [{"published": 5, "store": {"bytes": 7}}]),
])
def test_lists_are_json_lines_when_piped(run, command, rows):
    code, out, err = run(command)

    assert code == 0 and err == ""
    assert [json.loads(line) for line in out.splitlines()] == rows


def test_stats_shows_the_workers_too(run, client):
    client.workers = {1: {"published": 3}}

    _, out, _ = run("stats")

    assert json.loads(out)["workers"] == {"1": {"published": 3}}


def test_an_unreachable_server_is_named_with_what_to_do(run, client):
    client.refuse["a"] = errors.RequestTimeout("No answer from the server at tcp://127.0.0.1:1.")

    code, _, said = run("publish", "a", "x", "--address", "tcp://127.0.0.1:1")

    assert code == 3
    assert "at tcp://127.0.0.1:1. Is a server running there? 'zstreampub serve' starts one" in said


def test_publish_takes_terms_for_a_single_message(run, client):
    code, *_ = run("publish", "a", "x", "--id", "i", "--ttl", "1m", "--delay", "2s", "--unique",
                   "--wait-acked", "billing", "--wait-acked", "audit")

    assert code == 0
    assert client.terms == [{"id": "i", "ttl_s": 60.0, "delay_s": 2.0, "unique": "content", "wait": "acked",
                             "wait_for": ["billing", "audit"], "wait_timeout_s": 10.0}]


def test_publish_takes_the_id_of_a_line_from_its_field(run, client, tmp_path):
    path = tmp_path / "lines"
    path.write_text('{"n": 7}\n{"n": null}\n')

    assert run("publish", "--json", "a", "--id", "n", str(path))[0] == 0
    assert client.terms == [{"id": "7"}, {}]


@pytest.mark.parametrize("flags", [("--unique",), ("--ttl", "1"), ("--delay", "1"), ("--id", "x")], ids=str)
def test_terms_that_are_for_a_single_message_are_refused_for_lines(run, flags):
    code, _, err = run("publish", "--lines", "a", *flags)

    assert code == 2
    assert "single message" in err
