"""``zstreampub consume`` and its kin with real processes: a server, workers, signals and a crash."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.commands import Command, Serve
from tests.processes import wait_until

JOBS = 40


@pytest.fixture
def server(tmp_path):
    with Serve("--store", f"lmdb:{tmp_path / 'log'}") as running:
        yield running
        running.signal(signal.SIGTERM)
        assert running.wait() == 0


@pytest.fixture
def run(server):
    """Run a command to its end; return its exit code, stdout and stderr as lists of lines."""
    def run(*args, **more):
        with Command(*args, address=server.address, **more) as command:
            out, err = command.rest("out"), command.rest("err")
            return command.wait(), out, err
    return run


@pytest.fixture
def publish(run, tmp_path):
    """Publish each text as a message of one topic."""
    def publish(topic, *texts):
        path = tmp_path / "texts"
        path.write_text("".join(f"{text}\n" for text in texts))
        assert run("publish", "--lines", topic, path)[0] == 0
    return publish


@pytest.fixture
def consumer(run):
    """Return what the server says of a consumer."""
    def consumer(name):
        code, out, err = run("consumers", name)
        assert (code, err) == (0, [])
        return json.loads(out[0])
    return consumer


def lines_of(path):
    return path.read_text().split() if path.exists() else []


def test_workers_share_the_messages_and_each_is_worked_on_once(run, server, publish, consumer, tmp_path):
    done = tmp_path / "done"
    run("consumers", "create", "c", "jobs.>")
    publish("jobs.a", *range(JOBS))
    flags = ("consume", "c", "--jobs", "2", "--until-idle-s", "2s", "--", f"read n; echo $n >> {done}")

    with Command(*flags, address=server.address) as one, Command(*flags, address=server.address) as two:
        assert (one.wait(), two.wait()) == (0, 0)

    assert sorted(map(int, lines_of(done))) == list(range(JOBS))
    said = consumer("c")
    assert (said["lag"]["messages"], said["pending"], said["acked"], said["members"]) == (0, 0, JOBS, [])


def test_what_fails_comes_again_with_its_number_and_then_is_a_dead_letter(run, publish, consumer, tmp_path):
    tries = tmp_path / "tries"
    publish("jobs.a", "good", "bad", "never")
    program = f"read n; echo $n.$ZSTREAMPUB_DELIVERY >> {tries}; case $n in bad) exit 3;; never) exit 100;; esac"

    code, _, err = run("consume", "c", "jobs.>", "--start", "earliest", "--max-deliveries", "2", "--until-idle-s", "1s",
                       "--", program)

    assert code == 1
    assert sorted(lines_of(tries)) == ["bad.1", "bad.2", "good.1", "never.1"]
    assert "message 1 of jobs.a, delivery 1: exit status 3; it is given back" in err[0]
    code, out, _ = run("dead", "c")
    letters = [json.loads(line) for line in out]
    assert sorted((one["payload"], one["headers"]["dead-reason"], one["headers"]["dead-error"]) for one in letters) == [
        ("bad", "max_deliveries", "exit status 3"), ("never", "rejected", "exit status 100")]
    assert consumer("c")["dead"] == 2


def test_dead_letters_are_shown_redriven_and_purged(run, publish, consumer):
    publish("jobs.a", "one", "two", "three")
    run("consume", "c", "jobs.>", "--start", "earliest", "--count", "3", "--", "exit 100")
    letters = [json.loads(line) for line in run("dead", "c")[1]]
    offsets = {letter["payload"]: str(letter["offset"]) for letter in letters}

    assert run("dead", "show", "c", offsets["two"], "--format", "payload") == (0, ["two"], [])
    assert run("dead", "redrive", "c", offsets["one"]) == (0, ["1"], [])
    assert run("dead", "purge", "c", offsets["two"]) == (0, ["1"], [])
    assert run("dead", "purge", "c", offsets["two"])[:2] == (1, ["0"])
    assert run("dead", "redrive", "c", "--all", "--topic", "jobs.again") == (0, ["1"], [])

    assert run("dead", "c") == (0, [], []) and consumer("c")["dead"] == 0
    code, out, _ = run("consume", "c", "--count", "2", "--", "echo $ZSTREAMPUB_TOPIC $(cat)")
    assert (code, sorted(out)) == (0, ["jobs.a one", "jobs.again three"])


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_kills_the_commands_and_gives_the_messages_back(run, server, publish, tmp_path, number, code):
    pids = tmp_path / "pids"
    run("consumers", "create", "c", "jobs.>", "--ack-wait-s", "1h")
    publish("jobs.a", "one", "two")
    with Command("consume", "c", "--jobs", "2", "--", f"echo $$ >> {pids}; sleep 1000 & wait",
                 address=server.address) as worker:
        wait_until(lambda: len(lines_of(pids)) == 2, "two commands")

        worker.signal(number)

        assert worker.wait() == code
    wait_until(lambda: not any(is_running(pid) for pid in lines_of(pids)), "end of the commands")
    code, out, _ = run("consume", "c", "--count", "2", "--", "echo $(cat) $ZSTREAMPUB_DELIVERY")
    assert (code, sorted(out)) == (0, ["one 2", "two 2"])


def test_what_a_killed_worker_had_is_worked_on_by_another(run, server, publish, tmp_path):
    started = tmp_path / "started"
    run("consumers", "create", "c", "jobs.>", "--ack-wait-s", "1s")
    publish("jobs.a", "one")
    with Command("consume", "c", "--", f"touch {started}; exec sleep 5", address=server.address) as worker:
        wait_until(started.exists, "the command")
        worker.signal(signal.SIGKILL)
        worker.wait()

    code, out, _ = run("consume", "c", "--count", "1", "--", "echo $(cat) $ZSTREAMPUB_DELIVERY")

    assert (code, out) == (0, ["one 2"])


def test_a_command_keeps_its_message_over_a_restart_of_the_server(tmp_path):
    store, go, started = f"lmdb:{tmp_path / 'log'}", tmp_path / "go", tmp_path / "started"
    program = f"echo $ZSTREAMPUB_DELIVERY >> {started}; while [ ! -e {go} ]; do sleep 0.05; done"
    with Serve("--store", store) as first:
        with Command("consume", "c", "jobs.>", "--start", "earliest", "--count", "1", "--", program,
                     address=first.address) as worker:
            with Command("publish", "jobs.a", "one", address=first.address) as publish:
                assert publish.wait() == 0
            wait_until(started.exists, "the command")
            first.signal(signal.SIGKILL)
            first.wait()
            assert "lost" in worker.line("err")

            with Serve("--store", store, bind=first.address) as second:
                with Command("consumers", "c", address=second.address) as look:
                    look.wait()
                go.touch()

                assert worker.wait() == 0
                with Command("consumers", "c", address=second.address) as look:
                    said = json.loads(look.line())
    assert lines_of(started) == ["1"]
    assert (said["acked"], said["lag"]["messages"]) == (1, 0)


def test_printed_messages_are_acknowledged_and_do_not_come_again(run, publish):
    publish("jobs.a", "one", "two", "three")
    flags = ("consume", "c", "jobs.>", "--start", "earliest", "--until-idle-s", "1s", "--format", "payload")

    assert run(*flags) == (0, ["one", "two", "three"], [])
    publish("jobs.a", "four")

    assert run(*flags) == (0, ["four"], [])


def test_a_command_reaches_the_server_and_publishes_nothing_of_the_messages_facts(run, server, publish):
    publish("jobs.a", "one")

    code, _, err = run("consume", "c", "jobs.>", "--start", "earliest", "--count", "1", "--",
                       "zstreampub publish results.a - > /dev/null",
                       PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    assert (code, err) == (0, [])
    code, out, err = run("last", "results.a")
    assert (code, err) == (0, [])
    assert json.loads(out[0])["payload"] == "one" and "key" not in json.loads(out[0])


def test_consumers_are_listed_steered_and_deleted(run, publish, consumer):
    assert run("consumers", "create", "c", "jobs.>", "--ack-wait-s", "1m") == (0, [], [])
    assert run("consumers", "create", "c", "jobs.>", "--ack-wait-s", "1m") == (0, [], [])
    code, _, err = run("consumers", "create", "c", "jobs.>", "--ack-wait-s", "2m")
    assert code == 1 and "ack_wait_s" in err[0] and "ConsumerConflict" in err[0]
    publish("jobs.a", "one", "two")

    assert [json.loads(line)["consumer"] for line in run("consumers")[1]] == ["c"]
    assert run("consumers", "update", "c", "--ack-wait-s", "2m") == (0, [], [])
    assert run("consumers", "pause", "c") == (0, [], [])
    assert run("consume", "c", "--until-idle-s", "500ms")[:2] == (0, [])
    said = consumer("c")
    assert said["settings"]["ack_wait_s"] == 120.0 and said["paused"] and said["lag"]["messages"] == 2
    assert run("consumers", "resume", "c") == (0, [], [])
    assert run("consumers", "seek", "c", "1") == (0, [], [])
    assert run("consume", "c", "--until-idle-s", "500ms", "--format", "payload")[:2] == (0, ["two"])
    assert run("consumers", "delete", "c") == (0, [], [])
    assert run("consumers") == (0, [], [])
    assert run("consume", "c")[0] == 1


def test_a_worker_of_a_deleted_consumer_ends_with_exit_code_1(run, server, publish, tmp_path):
    publish("jobs.a", "one")
    started = tmp_path / "started"
    with Command("consume", "c", "jobs.>", "--start", "earliest", "--ack-wait-s", "1s", "--",
                 f"touch {started}; sleep 1000", address=server.address) as worker:
        wait_until(started.exists, "the command")

        run("consumers", "delete", "c")

        assert worker.wait() == 1
        err = worker.rest("err")
        assert "the command was ended" in err[0] and "ConsumerDeleted" in err[-1]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
