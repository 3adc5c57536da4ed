"""``zstreampub bench`` against a real server."""

import json
import re
import signal

import pytest

from tests.integration.commands import Command, Serve, on_terminal
from zstreampub import Client

LOADS = ["publish", "fan-out", "replay", "consume", "latency"]
SMALL = ("--messages", 2000, "--seconds", "20s", "--batch", 100)


@pytest.fixture
def server(tmp_path):
    with Serve("--store", f"lmdb:{tmp_path / 'log'}") as running:
        yield running


def results(command):
    """Return the JSON lines of a command that ends, its exit code, and its stderr."""
    out, err = command.rest("out"), command.rest("err")
    return [json.loads(line) for line in out], command.wait(), err


def test_all_loads_run_check_every_message_and_say_what_they_leave_behind(server):
    with Command("bench", *SMALL, "--subscribers", 2, "--rate", 4000, address=server.address) as command:
        found, code, err = results(command)

    assert (code, [one["load"] for one in found]) == (0, LOADS)
    assert [one["count"] for one in found] == [2000, 4000, 2000, 2000, 4000]
    assert all(one["faults"] == [] and one["rate"] > 0 for one in found)
    left = re.search(r"left in the log: 8,000 messages, .*, topics (bench\.\w+)\.>", err[-1])
    with Client(server.address) as client:
        assert sum(topic["messages"] for topic in client.topics(f"{left[1]}.>")) == 8000
        assert client.consumers() == []


def test_single_messages_have_a_delay_each_and_replay_publishes_by_itself(server):
    with Command("bench", "publish", "--batch", 1, "--messages", 300, address=server.address) as command:
        (publish,), code, _ = results(command)
    with Command("bench", "replay", *SMALL, address=server.address) as command:
        (replay,), other_code, _ = results(command)

    assert (code, other_code) == (0, 0)
    assert sum(count for _, _, count in publish["histogram_us"]) == 300
    assert 0 < publish["p50_us"] <= publish["p99_us"] <= publish["max_us"]
    assert (replay["count"], replay["faults"]) == (2000, [])


def test_people_get_lines_and_a_histogram_on_their_terminal(server):
    shown = on_terminal(server.address, "bench", "publish", *SMALL)

    assert re.search(r"publish: [\d,]+ messages/s, .*every message checked", shown)
    assert "p99.9" in shown and "█" in shown


def test_ctrl_c_ends_it_at_once_and_its_consumer_is_gone(server):
    with Command("bench", "consume", "latency", "--messages", 1000, "--rate", 1, "--seconds", "100s",
                 address=server.address) as command:
        assert json.loads(command.line())["load"] == "consume"

        command.signal(signal.SIGINT)

        assert "left in the log" in command.line("err")
        assert not any(command.rest("err"))
        assert command.wait() == 130
    with Client(server.address) as client:
        assert client.consumers() == []


def test_messages_that_are_not_there_any_more_are_told_and_the_exit_code_says_so(tmp_path):
    with (Serve("--store", f"lmdb:{tmp_path / 'log'}", "--retain", "bench.>:messages=100",
                "--retention-interval-s", "0.05") as server,
          Command("bench", "publish", "--batch", 10, "--messages", 20_000, "--seconds", "2s",
                  address=server.address) as command):
        (publish,), code, err = results(command)

    assert code == 1
    assert f"messages came, {publish['count']:,} were published" in publish["faults"][0]
    assert publish["faults"][0] in err[0]


@pytest.mark.parametrize("flags, complaint", [
    (["--size", "10"], "at least 20 bytes"), (["nothing"], "'nothing' is not one of"), (["--rate", "0"], "rate"),
    (["--batch", "0"], "batch"),
])
def test_wrong_usage_is_told(server, flags, complaint):
    with Command("bench", *flags, address=server.address) as command:
        _, code, err = results(command)

    assert code == 2
    assert complaint in err[0]


def test_a_server_that_is_not_there_is_told():
    with Command("bench", "--timeout-s", "0.3", address="tcp://127.0.0.1:1") as command:
        found, code, err = results(command)

    assert (found, code) == ([], 3)
    assert "zstreampub serve" in err[-1]
