"""``zstreampub consumers``, ``dead``, ``scheduled`` and ``cancel``: what is asked, shown and returned; no server."""

import json

import pytest

from zstreampub import errors
from zstreampub.cli import consumers, dead

CONSUMER = {
    "consumer": "billing", "patterns": ["orders.>"], "mode": "shared", "settings": {"ack_wait_s": 30.0},
    "paused": False, "members": [{"id": "i", "member": "host:1", "name": None, "in_flight": 2, "active": True}],
    "cursor": 9, "floor": 7, "pending": 2, "in_flight": 2, "waiting": 0, "redelivered": 0, "dead": 1,
    "oldest_unacked": {"offset": 7, "time": 1.5}, "lag": {"messages": 5, "bytes": 500, "seconds": 2.5}, "acked": 7,
    "created": 1.5}
LETTERS = [{"topic": "$dead.billing", "offset": offset, "time": 1.5, "payload": {"n": offset}, "key": "k",
            "headers": {"dead-reason": "rejected", "dead-error": "exit status 100", "dead-deliveries": 2,
                        "dead-topic": "orders.eu", "dead-offset": offset - 3, "dead-time": 1.5}}
           for offset in (10, 12, 14)]
SCHEDULED = [{"id": "s1", "topic": "orders.later", "at": 1.5, "size": 100}]


@pytest.fixture
def asked(run, client):
    """Run a command with these answers of the client; return the outcome, and what was asked."""
    def asked(*args, **answers):
        client.answers = answers
        return run(*args), client.called
    return asked


# --- seeing -------------------------------------------------------------------------

@pytest.mark.parametrize("args", [["consumers"], ["consumers", "list"], ["consumers", "--json"],
                                  ["consumers", "--timeout-s", "3"]])
def test_the_consumers_are_json_lines_when_piped(asked, args):
    (code, out, err), called = asked(*args, consumers=[CONSUMER, CONSUMER])

    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [CONSUMER, CONSUMER]
    assert called == [("consumers", (), {})]


@pytest.mark.parametrize("args", [["consumers", "billing"], ["consumers", "show", "billing"],
                                  ["consumers", "--json", "billing"]])
def test_one_consumer_is_shown_by_its_name(asked, args):
    (code, out, err), called = asked(*args, consumer=CONSUMER)

    assert (code, json.loads(out), err) == (0, CONSUMER, "")
    assert called == [("consumer", ("billing",), {})]


def test_a_consumer_that_is_not_there_is_exit_code_1(asked):
    (code, out, err), _ = asked("consumers", "bling", consumer=errors.UnknownConsumer("There is no consumer 'bling'."))

    assert (code, out, err) == (1, "", "zstreampub: There is no consumer 'bling'. 'zstreampub consumers' lists them, "
                                       "'zstreampub consumers create' makes one. (UnknownConsumer)\n")


def test_people_see_one_line_of_plain_values_for_each_consumer():
    row = consumers._row({**CONSUMER, "paused": "dead letters: 9 of 9"})

    assert row == {"consumer": "billing", "mode": "shared", "members": 1, "lag": 5, "lag_s": 2.5, "in_flight": 2,
                   "waiting": 0, "dead": 1, "paused": "dead letters: 9 of 9", "patterns": ["orders.>"]}


# --- steering -----------------------------------------------------------------------

@pytest.mark.parametrize("args, method, arguments, options", [
    (["create", "c", "a.>", "b", "--start", "earliest", "--mode", "exclusive", "--ack-wait-s", "1m"],
     "create_consumer", ("c", ["a.>", "b"]), {"start": "earliest", "mode": "exclusive", "ack_wait_s": 60.0}),
    (["update", "c", "--max-deliveries", "0", "--backoff-s", "1s"],
     "update_consumer", ("c",), {"max_deliveries": 0, "backoff_s": [1.0]}),
    (["delete", "c"], "delete_consumer", ("c",), {}),
    (["seek", "c", "last:5"], "seek", ("c", {"last": 5}), {}),
    (["pause", "c"], "pause", ("c",), {}), (["resume", "c"], "resume", ("c",), {}),
])
def test_steering_asks_for_what_it_says_and_is_quiet(asked, args, method, arguments, options):
    outcome, called = asked("consumers", *args, **{method: True})

    assert outcome == (0, "", "")
    assert called == [(method, arguments, options)]


def test_deleting_what_is_not_there_is_exit_code_1(asked):
    outcome, _ = asked("consumers", "delete", "c", delete_consumer=False)

    assert outcome == (1, "", "zstreampub: there is no consumer 'c'; 'zstreampub consumers' lists them\n")


@pytest.mark.parametrize("args, reason", [
    (["create", "c"], "PATTERN"), (["create"], "NAME"), (["update", "c"], "Give a setting"),
    (["seek", "c"], "WHERE"), (["seek", "c", "soon"], "'soon' is no start"),
    (["update", "c", "--mode", "shared"], "--mode"), (["create", "c", "a", "--mode", "some"], "'some'"),
    (["pause"], "NAME"), (["c", "d"], "unexpected"),
])
def test_wrong_steering_is_told(asked, args, reason):
    (code, _, err), called = asked("consumers", *args)

    assert code == 2 and reason in err and err.count("\n") == 1
    assert called == []


# --- dead letters -------------------------------------------------------------------

@pytest.mark.parametrize("args", [["billing"], ["list", "billing"]])
def test_dead_letters_are_json_lines_when_piped(asked, args):
    (code, out, err), called = asked("dead", *args, dead=LETTERS)

    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == LETTERS
    assert called == [("dead", ("billing",), {"first": None, "limit": 101})]


def test_where_there_are_more_dead_letters_it_says_where_to_go_on(asked):
    (code, out, err), called = asked("dead", "billing", "--limit", "2", "--first", "9", dead=LETTERS)

    assert code == 0 and out.count("\n") == 2
    assert err == "zstreampub: there are more: --first 14\n"
    assert called == [("dead", ("billing",), {"first": 9, "limit": 3})]


def test_people_see_why_it_is_dead_and_what_it_was():
    assert dead._row(LETTERS[0]) == {"offset": 10, "reason": "rejected", "deliveries": 2, "topic": "orders.eu", "of": 7,
                                     "key": "k", "error": "exit status 100", "payload": {"n": 10}}


def test_a_dead_letter_is_printed_as_a_message(asked):
    assert asked("dead", "show", "billing", "10", "--format", "payload", dead=LETTERS[:1])[0] == (0, '{"n": 10}\n', "")


def test_an_offset_that_is_no_dead_letter_is_exit_code_1(asked):
    outcome, _ = asked("dead", "show", "billing", "11", dead=LETTERS[1:2])

    assert outcome == (1, "", "zstreampub: there is no dead letter of billing at offset 11\n")


@pytest.mark.parametrize("args, method, options", [
    (["redrive", "c", "--all"], "redrive", {"offsets": None, "topic": None}),
    (["redrive", "c", "10", "12", "--topic", "a.b"], "redrive", {"offsets": [10, 12], "topic": "a.b"}),
    (["purge", "c", "--all"], "purge", {"offsets": None}),
    (["purge", "c", "10", "12"], "purge", {"offsets": [10, 12]}),
])
def test_redrive_and_purge_print_how_many(asked, args, method, options):
    outcome, called = asked("dead", *args, **{method: 2})

    assert outcome == (0, "2\n", "")
    assert called == [(method, ("c",), options)]


@pytest.mark.parametrize("verb", ["redrive", "purge"])
def test_offsets_that_are_no_dead_letters_are_told_and_exit_code_1(asked, verb):
    (code, out, err), _ = asked("dead", verb, "c", "10", "11", **{verb: 1})

    assert (code, out) == (1, "1\n") and "1 of the offsets is no dead letter of c" in err


@pytest.mark.parametrize("args", [["redrive", "c"], ["purge", "c"], ["purge", "c", "5", "--all"], ["purge", "c", "x"],
                                  [], ["show", "c"]])
def test_what_is_to_be_redriven_or_purged_must_be_said(asked, args):
    (code, _, err), called = asked("dead", *args)

    assert code == 2 and err.count("\n") == 1
    assert called == []


# --- messages that wait for their time --------------------------------------------------

def test_what_waits_for_its_time_is_json_lines_when_piped(asked):
    (code, out, err), _ = asked("scheduled", scheduled=SCHEDULED)

    assert (code, [json.loads(line) for line in out.splitlines()], err) == (0, SCHEDULED, "")


def test_all_that_waits_is_listed_however_much(asked):
    def scheduled(options):
        after = int(options.get("after", -1))
        return [{**SCHEDULED[0], "id": str(n)} for n in range(after + 1, min(after + 1 + options["limit"], 2500))]

    (code, out, err), called = asked("scheduled", scheduled=scheduled)

    assert (code, err, len(called)) == (0, "", 3)
    assert [json.loads(line)["id"] for line in out.splitlines()] == [str(n) for n in range(2500)]


def test_cancel_says_what_was_not_there(asked):
    assert asked("cancel", "s1", cancel=True)[0] == (0, "", "")
    (code, _, err), _ = asked("cancel", "s1", "s2", cancel=False)

    assert code == 1 and err.count("\n") == 2 and "'s1'" in err
