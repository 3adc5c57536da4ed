"""``zstreampub consume``: what its commands are given, and what becomes of the messages; no server."""

import json
import os
import sys

import gevent
import pytest

from tests.unit.fake_client import FakeDelivery
from zstreampub import errors
from zstreampub.cli import jobs

DEADLINE_S = 20


@pytest.fixture
def consume(run, client):
    """Run the command on *deliveries*, until there are no more of them."""
    def consume(*args, deliveries=()):
        client.consumption.deliveries += deliveries
        with gevent.Timeout(DEADLINE_S):
            return run("consume", "--until-idle-s", "1ms", *args)
    return consume


@pytest.fixture
def said(client):
    return client.consumption.said


def python(program):
    """Return the words of a command that runs *program*, with os and sys at hand."""
    return ["--", sys.executable, "-c", f"import os, sys, time\n{program}"]


# --- commands -----------------------------------------------------------------------

def test_a_command_gets_the_payload_on_stdin_and_exit_status_0_acknowledges(consume, said):
    code, out, err = consume("c", "--", "cat", deliveries=[FakeDelivery(3, "one\n"), FakeDelivery(4, {"n": 1})])

    assert (code, out, err) == (0, 'one\n{"n": 1}', "")
    assert said == [("ack", 3), ("ack", 4)]


def test_a_command_is_told_of_its_message_in_the_environment(consume):
    delivery = FakeDelivery(3, "x", key="k\0", id=b"\xff", headers={"trace-id": "t", "n": 1.5, "on": True, "no": None},
                            delivery=2)
    show = "print(*(f'{n}={os.fsencode(v)}' for n, v in sorted(os.environ.items()) if n.startswith('ZSTREAMPUB_')))"

    _, out, _ = consume("c", "--address", "tcp://127.0.0.1:1", *python(show), deliveries=[delivery])

    assert out.split() == [f"ZSTREAMPUB_{one}" for one in (
        "ADDRESS=b'tcp://127.0.0.1:1'", "CONSUMER=b'c'", "DELIVERY=b'2'", "HEADER_N=b'1.5'", "HEADER_ON=b'true'",
        "HEADER_TRACE_ID=b't'", "ID=b'\\xff'", "KEY=b'k\\\\0'", "OFFSET=b'3'", "TIME=b'1.5'", "TOPIC=b'a.b'")]


def test_what_a_message_has_not_is_not_in_the_environment_whatever_is_there_outside(consume, monkeypatch):
    monkeypatch.setenv("ZSTREAMPUB_KEY", "of another")

    _, out, _ = consume("c", "--", "echo ${ZSTREAMPUB_KEY-none}", deliveries=[FakeDelivery(3, "x")])

    assert out == "none\n"


def test_a_command_of_one_word_with_blanks_is_run_by_the_shell(consume):
    code, out, _ = consume("c", "--", "cat | tr a-z A-Z", deliveries=[FakeDelivery(3, "one")])

    assert (code, out) == (0, "ONE")


def test_another_exit_status_gives_the_message_back_and_is_told(consume, said):
    code, _, err = consume("c", "--", "exit 3", deliveries=[FakeDelivery(3, "x"), FakeDelivery(4, "x")])

    assert code == 1
    assert said == [("nack", 3, "exit status 3"), ("nack", 4, "exit status 3")]
    assert err.splitlines()[0] == "zstreampub: message 3 of a.b, delivery 1: exit status 3; it is given back"


@pytest.mark.parametrize("flags, status, verb", [
    ([], 100, "reject"), (["--reject-on", "65"], 65, "reject"), (["--reject-on", "65"], 100, "nack"),
    (["--reject-on", "1", "--reject-on", "2"], 2, "reject"),
])
def test_a_status_of_reject_on_makes_a_dead_letter(consume, said, flags, status, verb):
    code, _, err = consume("c", *flags, "--", f"exit {status}", deliveries=[FakeDelivery(3, "x")])

    assert (code, said) == (1, [(verb, 3, f"exit status {status}")])
    assert ("dead letter" in err) == (verb == "reject")


def test_a_command_that_dies_of_a_signal_gives_its_message_back(consume, said):
    consume("c", "--", "kill -9 $$", deliveries=[FakeDelivery(3, "x")])

    assert said == [("nack", 3, "killed by signal 9")]


def test_a_command_that_does_not_read_its_message_is_fine(consume, said):
    code, _, err = consume("c", "--", "true", deliveries=[FakeDelivery(3, "x" * 1_000_000)])

    assert (code, err, said) == (0, "", [("ack", 3)])


@pytest.mark.parametrize("words", [["exit 127"], ["exit 126"], ["no-such-command | cat; exit 127"]])
def test_a_command_that_cannot_be_run_ends_it_and_the_message_is_not_settled(consume, client, words):
    code, _, err = consume("c", "--", *words, deliveries=[FakeDelivery(3, "x"), FakeDelivery(4, "x")])

    assert code == 1 and "cannot be run" in err and "given back" in err
    assert client.consumption.said == [] and client.consumption.closed


def test_a_message_that_does_not_fit_into_the_environment_is_rejected(consume, said):
    code, *_ = consume("c", "--", "true", deliveries=[FakeDelivery(3, "x", headers={"h": "x" * 200_000})])

    assert (code, said) == (1, [("reject", 3, "its key or headers are too long for the environment of a command")])


def test_commands_run_side_by_side_up_to_jobs(consume, client, tmp_path):
    meet = (f"open('{tmp_path}/' + os.environ['ZSTREAMPUB_OFFSET'], 'w').close()\n"
            f"while len(os.listdir('{tmp_path}')) < 3: time.sleep(0.01)")

    code, *_ = consume("c", "--jobs", "3", *python(meet), deliveries=[FakeDelivery(n, "x") for n in range(3)])

    assert code == 0 and client.asked[2]["max_in_flight"] == 3
    assert sorted(client.consumption.said) == [("ack", n) for n in range(3)]


# --- time ---------------------------------------------------------------------------

def test_a_message_is_kept_while_its_command_runs(consume, client, tmp_path):
    client.consumption.ack_wait_s = 0.3
    wait = f"while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)"
    say = client.consumption.say

    def say_and_go(verb, *args):
        if verb == "extend" and len(client.consumption.said) == 2:
            (tmp_path / "go").touch()
        return say(verb, *args)
    client.consumption.say = say_and_go

    assert consume("c", *python(wait), deliveries=[FakeDelivery(3, "x")])[0] == 0
    assert client.consumption.said[:3] == [("extend", 3, 0.3)] * 3
    assert client.consumption.said[-1] == ("ack", 3)


def test_a_command_over_its_time_is_killed_with_all_that_it_started(consume, said, tmp_path):
    fork = (f"pid = os.fork(); open('{tmp_path}/' + str(os.getpid()), 'w').close(); "
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN) if not pid else None; time.sleep(1000)")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "_GRACE_S", 0.2)
        code, _, err = consume("c", "--job-timeout-s", "500ms", *python(fork), deliveries=[FakeDelivery(3, "x")])

    assert code == 1 and "no end within 0.5 s; it is given back" in err
    assert said == [("nack", 3, "no end within 0.5 s")]
    for pid in os.listdir(tmp_path):
        wait_gone(int(pid))


@pytest.mark.parametrize("error", [errors.StaleDelivery("Gone.", offsets=[3]), errors.UnknownConsumer("Gone.")])
def test_a_command_whose_message_is_not_ours_any_more_is_ended(consume, client, error):
    client.consumption.ack_wait_s = 0.1
    client.consumption.errors["extend"] = error

    code, _, err = consume("c", "--", "sleep 1000", deliveries=[FakeDelivery(3, "x")])

    assert code == 1 and "the command was ended, as its message is lost: Gone." in err
    assert {verb for verb, *_ in client.consumption.said} == {"extend"}


def test_an_ack_that_comes_too_late_is_told_and_the_next_message_is_worked_on(consume, client):
    client.consumption.errors["ack"] = errors.StaleDelivery("It was delivered again.", offsets=[3])

    code, out, err = consume("c", "--", "cat", deliveries=[FakeDelivery(3, "x"), FakeDelivery(4, "y")])

    assert (code, out) == (1, "xy")
    assert err.splitlines()[0] == "zstreampub: message 3 of a.b, delivery 1: It was delivered again."


def wait_gone(pid):
    """Wait until a process that is no child of ours is gone, or a zombie of whoever inherits it."""
    with gevent.Timeout(DEADLINE_S):
        while os.path.exists(f"/proc/{pid}"):
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
            gevent.sleep(0.01)


# --- ends ---------------------------------------------------------------------------

def test_count_ends_after_so_many_messages_and_asks_for_no_more(consume, client):
    code, out, _ = consume("c", "--count", "2", "--jobs", "8", "--", "cat",
                           deliveries=[FakeDelivery(n, str(n)) for n in range(3)])

    assert (code, sorted(out)) == (0, ["0", "1"])
    assert client.asked[2]["max_in_flight"] == 2
    assert client.consumption.closed


@pytest.mark.parametrize("error, code", [
    (errors.ConnectionLost("Gone."), 3), (errors.ConsumerDeleted("Deleted."), 1), (errors.StoreFull("Full."), 4),
    (KeyboardInterrupt(), 130),
])
def test_what_ends_the_stream_ends_the_commands_and_is_the_exit_code(run, client, tmp_path, error, code):
    client.consumption.deliveries = [FakeDelivery(3, "x")]
    get = client.consumption.get

    def get_then_fail(timeout_s=None):
        if not client.consumption.deliveries:
            with gevent.Timeout(DEADLINE_S):
                while not (tmp_path / "pid").exists():
                    gevent.sleep(0.01)
            raise error
        return get(timeout_s)
    client.consumption.get = get_then_fail

    got, *_ = run("consume", "c", "--jobs", "2", "--",
                  f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 1000")

    assert got == code
    assert client.consumption.said == [] and client.consumption.closed
    wait_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("verb", ["ack", "nack", "reject"])
def test_an_answer_that_says_that_nothing_goes_any_more_ends_it(consume, client, verb):
    client.consumption.errors[verb] = errors.ConnectionLost("Gone.")
    status = {"ack": 0, "nack": 1, "reject": 100}[verb]

    code, _, err = consume("c", "--", f"exit {status}", deliveries=[FakeDelivery(3, "x"), FakeDelivery(4, "x")])

    assert code == 3 and "Gone." in err.splitlines()[-1]


# --- printing -----------------------------------------------------------------------

def test_without_a_command_messages_are_printed_and_acknowledged(consume, said):
    code, out, err = consume("c", deliveries=[FakeDelivery(3, "x"), FakeDelivery(4, "y", delivery=2)])

    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"topic": "a.b", "offset": 3, "time": 1.5, "payload": "x", "delivery": 1, "token": 7},
        {"topic": "a.b", "offset": 4, "time": 1.5, "payload": "y", "delivery": 2, "token": 7}]
    assert said == [("ack", 3), ("ack", 4)]


def test_count_ends_the_printing(consume, client):
    code, out, _ = consume("c", "--count", "2", "--format", "payload",
                           deliveries=[FakeDelivery(n, str(n)) for n in range(3)])

    assert (code, out) == (0, "0\n1\n")
    assert client.asked[2]["max_in_flight"] == 2


def test_a_message_that_could_not_be_printed_is_not_acknowledged(run, client, monkeypatch):
    from zstreampub.cli import consume, exits

    class Broken(consume.Out):
        def flush(self):
            raise exits.ReaderGone
    client.consumption.deliveries = [FakeDelivery(3, "x")]
    monkeypatch.setattr(consume, "Out", Broken)
    monkeypatch.setattr(os, "dup2", lambda *_: None)

    assert run("consume", "c")[0] == 141
    assert client.consumption.said == [] and client.consumption.closed


def test_an_ack_of_a_printed_message_that_comes_too_late_is_told(consume, client):
    client.consumption.errors["ack"] = errors.StaleDelivery("It was delivered again.", offsets=[3])

    code, out, err = consume("c", "--format", "payload", deliveries=[FakeDelivery(3, "x"), FakeDelivery(4, "y")])

    assert (code, out) == (0, "x\ny\n")
    assert "message 3 was printed, but its acknowledgement came too late: it comes again" in err


# --- what is asked ------------------------------------------------------------------

def test_only_what_is_given_is_asked_for(consume, client):
    consume("c")

    patterns, name, options = client.asked
    assert (patterns, name) == (None, "c")
    assert options.pop("member").endswith(f":{os.getpid()}")
    assert set(options) == {"on_gap", "on_control"}


def test_settings_of_the_consumer_and_the_member_are_passed_on(consume, client):
    consume("c", "a.>", "b", "--start", "last:3", "--mode", "key_ordered", "--ack-wait-s", "1m", "--backoff-s", "1s,1m",
            "--jitter", "0.5", "--max-deliveries", "0", "--max-pending", "7", "--retention", "gap", "--expired", "dead",
            "--max-dead", "9", "--inactive-s", "1d", "--member", "me", "--max-in-flight", "5")

    patterns, _, options = client.asked
    assert patterns == ["a.>", "b"]
    del options["on_gap"], options["on_control"]
    assert options == {"start": {"last": 3}, "mode": "key_ordered", "ack_wait_s": 60.0, "backoff_s": [1.0, 60.0],
                       "jitter": 0.5, "max_deliveries": 0, "max_pending": 7, "retention": "gap", "expired": "dead",
                       "max_dead": 9, "inactive_s": 86_400.0, "member": "me", "max_in_flight": 5}


@pytest.mark.parametrize("args, reason", [
    ([], "NAME"), (["c", "--"], "after --"), (["c", "--", "no-such-command"], "no command 'no-such-command'"),
    (["c", "a.>", "./bill.sh"], "-- ./bill.sh"), (["c", "a.>", "/bin/true"], "-- /bin/true"),
    (["c", "a.>", "jq .id"], "-- jq .id"), (["c", "--jobs", "0"], "0"), (["c", "--count", "x"], "not a valid integer."),
    (["c", "--reject-on", "256"], "256"), (["c", "--backoff-s", "1s,soon"], "'soon'"),
])
def test_wrong_use_is_told_before_anything_is_asked(run, client, args, reason):
    code, _, err = run("consume", *args)

    assert code == 2 and reason in err and err.count("\n") == 1
    assert client.asked is None


def test_a_paused_consumer_is_told(consume, client, capfd):
    consume("c")

    client.asked[2]["on_control"]({"control": "paused", "why": "dead letters: 3 of 3"})

    assert capfd.readouterr().err == "zstreampub: the consumer is paused: dead letters: 3 of 3\n"


@pytest.mark.parametrize("args, greeting", [
    (["c"], "joined c; a message is acknowledged when it is printed; ctrl-C ends"),
    (["c", "a.>", "b/c", "--", "cat"], "joined c (a.>, b/c); cat is run for each message; ctrl-C ends"),
])
def test_people_are_told_what_was_joined_and_what_becomes_of_it(run, client, capfd, monkeypatch, args, greeting):
    client.consumption.deliveries = [KeyboardInterrupt()]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run("consume", *args)
    tell = client.asked[2]["on_control"]
    capfd.readouterr()

    for control in ({"control": "subscribed", "paused": "by request"}, {"control": "resumed"},
                    {"control": "subscribed", "paused": False}):
        tell(control)

    assert capfd.readouterr().err.splitlines() == [f"zstreampub: {text}" for text in (
        greeting, "the consumer is paused: by request", "the consumer goes on", "connected again")]


# --- commands that run zstreampub ------------------------------------------------------

def test_a_publish_within_a_command_takes_nothing_from_the_message(run, client, monkeypatch):
    for name, value in {"DELIVERY": "1", "KEY": "k", "TOPIC": "a", "HEADER_X": "1", "ID": "i"}.items():
        monkeypatch.setenv(f"ZSTREAMPUB_{name}", value)

    code, _, err = run("publish", "b", "x")

    assert (code, err) == (0, "")
    assert client.published == [("b", "x", None, None)]
