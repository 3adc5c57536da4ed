"""The command with real processes: a server, publishers, subscribers, pipes and signals."""

import gzip
import json
import os
import signal
import subprocess

import pytest

from tests.integration.commands import DEADLINE_S, Command, Serve, argv_of, on_terminal

FLIGHTS = [{"origin": origin, "destination": destination, "n": n}
           for n, (origin, destination) in enumerate([("SFO", "LAX"), ("OAK", "SFO"), ("SFO", "DEN")] * 200)]


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
def flights(tmp_path):
    path = tmp_path / "flights"
    path.write_bytes(gzip.compress("".join(json.dumps(flight) + "\n" for flight in FLIGHTS).encode()))
    return path


def test_the_server_says_what_it_serves_and_drains_on_ctrl_c(tmp_path):
    with Serve("--store", f"lmdb:{tmp_path / 'log'}") as server:
        assert f"serving lmdb:{tmp_path / 'log'} on tcp://127.0.0.1:" in server.ready
        assert "offsets [0, 0), epoch " in server.ready

        server.signal(signal.SIGINT)

        assert server.wait() == 0


def test_what_was_published_is_there_after_the_server_has_started_again(tmp_path):
    store = f"lmdb:{tmp_path / 'log'}"
    with Serve("--store", store) as server:
        with Command("publish", "a.b", "hello", address=server.address) as publish:
            assert publish.line() == "0"
        server.signal(signal.SIGTERM)
        server.wait()

    with Serve("--store", store) as server:
        with Command("subscribe", "--start", "earliest", "--count", "1", address=server.address) as subscribe:
            message = json.loads(subscribe.line())

            assert "offsets [0, 1)" in server.ready
            assert (message["topic"], message["payload"]) == ("a.b", "hello")
            assert subscribe.wait() == 0


def test_json_lines_of_a_gzip_file_come_back_in_their_order(run, flights):
    code, out, err = run("publish", "--json", "flights.{origin}.{destination}", "--key", "origin", flights)
    assert (code, out) == (0, [])
    assert "600 messages in" in err[-1] and "offsets [0, 600)" in err[-1]

    code, out, err = run("subscribe", "flights.SFO.>", "--start", "earliest", "--until", "end")

    assert (code, err) == (0, [])
    messages = [json.loads(line) for line in out]
    assert [message["payload"] for message in messages] == [one for one in FLIGHTS if one["origin"] == "SFO"]
    assert {message["key"] for message in messages} == {"SFO"}


def test_lines_of_a_pipe_are_published_as_they_are_written(server):
    with (Command("subscribe", "log.>", "--format", "payload", "--start", "earliest", address=server.address) as reader,
          Command("publish", "--lines", "log.web", address=server.address, stdin=subprocess.PIPE) as writer):
        for text in ("one", "two"):
            writer.process.stdin.write(text.encode() + b"\n")
            writer.process.stdin.flush()

            assert reader.line() == text

        writer.process.stdin.close()
        assert "2 messages" in writer.line("err")
        assert writer.wait() == 0


def test_a_bad_line_is_named_and_the_exit_code_says_so(run, tmp_path):
    path = tmp_path / "lines"
    path.write_text('{"a": "x"}\nnonsense\n{"a": "y z"}\n{"a": "w"}\n')

    code, _, err = run("publish", "--json", "t.{a}", path)

    assert code == 1
    assert err[0].startswith(f"zstreampub: {path}:2: no JSON")
    assert err[1].startswith(f"zstreampub: {path}:3: ")
    assert "2 messages" in err[2] and "2 lines skipped" in err[2]


def test_a_payload_over_the_limit_of_the_server_is_that_lines_fault(tmp_path):
    lines = tmp_path / "lines"
    lines.write_text("short\n" + "x" * 2000 + "\nshort too\n")
    with Serve("--store", "memory:", "--max-message-bytes", "1K") as server:
        with Command("publish", "--lines", "t", lines, address=server.address) as publish:
            err = publish.rest("err")

            assert publish.wait() == 1
            assert ":2: A payload has at most 1024 bytes" in err[0]
            assert "2 messages" in err[1]


@pytest.mark.parametrize("args, exit_code", [
    (["publish", "a..b", "x"], 1),
    (["subscribe", "a.>", "--start", "1000"], 1),
    (["subscribe", "a.>", "--start", "0", "--epoch", "another"], 1),
    (["subscribe", "a.>", "--policy", "none"], 1),
    (["topics", "a.*.>.b"], 1),
    (["publish", "a"], 2),
    (["subscribe", "--start", "then"], 2),
    (["publish", "a", "b", "--address", "tcp://127.0.0.1:1", "--timeout-s", "0.2"], 3),
    (["subscribe", "--address", "tcp://127.0.0.1:1", "--timeout-s", "0.2"], 3),
])
def test_an_error_is_one_line_and_an_exit_code(run, args, exit_code):
    code, out, err = run(*args)

    assert (code, out) == (exit_code, [])
    assert len(err) == 1 and err[0].startswith("zstreampub: ")


def test_a_server_that_is_not_there_is_told_after_a_moment_and_waited_for(tmp_path):
    with Serve("--store", "memory:") as gone:
        gone.signal(signal.SIGTERM)
        gone.wait()
    with Command("publish", "a", "b", "--timeout-s", DEADLINE_S, address=gone.address) as publish:
        assert publish.line("err") == f"zstreampub: no connection to {gone.address} yet, trying for {DEADLINE_S} s"

        with Serve("--store", "memory:", bind=gone.address):
            assert (publish.wait(), publish.line()) == (0, "0")


def test_an_endpoint_that_is_taken_is_told_in_one_line(server, tmp_path):
    with Command("serve", "--bind", server.address, "--store", "memory:") as second:
        err = second.rest("err")

        assert second.wait() == 1
        assert len(err) == 1 and server.address in err[0]


def test_a_store_that_another_server_has_open_is_exit_code_4(server, tmp_path):
    with Command("serve", "--bind", "tcp://127.0.0.1:0", "--store", f"lmdb:{tmp_path / 'log'}") as second:
        err = second.rest("err")

        assert second.wait() == 4
        assert len(err) == 1 and str(tmp_path / "log") in err[0]


def test_topics_subscriptions_and_stats_tell_what_there_is(run, server, flights):
    run("publish", "--json", "flights.{origin}.{destination}", flights)

    topics = [json.loads(line) for line in run("topics", "flights.SFO.*")[1]]
    stats = json.loads(run("stats")[1][0])
    with Command("subscribe", "x.>", "--name", "me", "--start", "earliest", address=server.address) as reader:
        run("publish", "x.y", "z")
        reader.line()
        (subscription,) = (json.loads(line) for line in run("subscriptions")[1])

    assert [(one["topic"], one["messages"]) for one in topics] == [("flights.SFO.DEN", 200), ("flights.SFO.LAX", 200)]
    assert (stats["next"], stats["published"]) == (600, 600)
    assert (subscription["name"], subscription["patterns"]) == ("me", ["x.>"])


def test_get_and_last_print_one_message(run):
    run("publish", "a.b", "one", "--key", "k")
    run("publish", "a.b", "two")

    assert run("get", "0", "--format", "payload") == (0, ["one"], [])
    assert run("last", "a.b", "--format", "payload") == (0, ["two"], [])
    assert run("last", "a.b", "--key", "k", "--format", "payload") == (0, ["one"], [])
    assert run("get", "7") == (1, [], ["zstreampub: there is no message at offset 7; the log keeps [0, 2)"])


def test_a_subscription_that_was_ended_by_its_id_is_gone(run, server):
    with Command("subscribe", "x.>", "--start", "earliest", address=server.address) as reader:
        run("publish", "x.y", "z")
        reader.line()
        (subscription,) = (json.loads(line) for line in run("subscriptions")[1])

        assert run("unsubscribe", subscription["id"]) == (0, [], [])

        assert run("unsubscribe", subscription["id"])[0] == 1
        reader.wait()
    assert run("subscriptions")[1] == []


# --- signals and pipes -------------------------------------------------------------------

def test_ctrl_c_ends_a_subscriber_quietly_with_130(server, run):
    with Command("subscribe", "--start", "earliest", address=server.address) as reader:
        run("publish", "a", "b")
        reader.line()

        reader.signal(signal.SIGINT)

        assert reader.wait() == 130
        assert "".join(reader.rest("err")) == ""


def test_ctrl_c_ends_a_publisher_with_130_and_its_account(server):
    with Command("publish", "--lines", "a", address=server.address, stdin=subprocess.PIPE) as writer:
        with Command("subscribe", "--start", "earliest", address=server.address) as reader:
            writer.process.stdin.write(b"x\n")
            writer.process.stdin.flush()
            reader.line()

        writer.signal(signal.SIGINT)

        assert writer.wait() == 130
        assert "1 message in" in "".join(writer.rest("err"))


def test_a_reader_that_leaves_the_pipe_ends_the_subscriber_quietly_with_141(server, run, flights):
    run("publish", "--json", "flights.{origin}.{destination}", flights)
    read, write = os.pipe()
    os.close(read)

    with subprocess.Popen(argv_of("subscribe", "--start", "earliest"), stdout=write, stderr=subprocess.PIPE,
                          env={**os.environ, "ZSTREAMPUB_ADDRESS": server.address}) as reader:
        os.close(write)
        _, err = reader.communicate(timeout=DEADLINE_S)

    assert (reader.returncode, err) == (141, b"")


def test_a_subscriber_whose_output_is_not_read_keeps_its_connection_and_loses_nothing(tmp_path):
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{n} {'x' * 1000}\n" for n in range(3000)))
    with Serve("--store", "memory:", "--heartbeat-s", "0.2") as server:
        with subprocess.Popen(argv_of("subscribe", "--format", "payload", "--start", "earliest", "--count", "3000"),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**os.environ, "ZSTREAMPUB_ADDRESS": server.address}) as reader:
            for _ in range(2):      # the second takes longer than the server waits for a silent peer
                with Command("publish", "--lines", "big", lines, address=server.address) as publish:
                    assert publish.wait() == 0
            with Command("subscribe", "none", "--count", "1", address=server.address) as clock:
                try:
                    clock.process.wait(2)
                except subprocess.TimeoutExpired:
                    pass
            out, err = reader.communicate(timeout=DEADLINE_S)

    assert [int(line.split()[0]) for line in out.splitlines()] == list(range(3000))
    assert (reader.returncode, err) == (0, b"")


def test_a_subscriber_goes_on_where_it_was_after_the_server_came_back(tmp_path):
    store = f"lmdb:{tmp_path / 'log'}"
    with Serve("--store", store) as first:
        with Command("subscribe", "--start", "earliest", "--format", "payload", address=first.address) as reader:
            with Command("publish", "a", "before", address=first.address) as publish:
                publish.wait()
            assert reader.line() == "before"
            first.signal(signal.SIGKILL)
            first.wait()
            assert "lost" in reader.line("err")

            with Serve("--store", store, bind=first.address) as second:
                with Command("publish", "a", "after", address=second.address) as publish:
                    assert publish.wait() == 0

                assert reader.line() == "after"
                assert "going on at offset 1" in reader.line("err")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_subscriber_with_a_state_goes_on_after_a_signal_where_it_was(server, run, tmp_path, number, code):
    flags = ("subscribe", "a.>", "--start", "earliest", "--format", "payload", "--state", tmp_path / "state")
    for text in ("one", "two"):
        run("publish", "a.b", text)
    with Command(*flags, address=server.address) as reader:
        assert [reader.line(), reader.line()] == ["one", "two"]

        reader.signal(number)

        assert (reader.wait(), "".join(reader.rest("err"))) == (code, "")
    assert json.loads((tmp_path / "state").read_text())["offset"] == 2
    run("publish", "a.b", "three")
    assert run(*flags, "--until", "end") == (0, ["three"], [])
    assert run(*flags, "--until", "end") == (0, [], [])


def test_a_state_of_a_log_that_was_made_anew_is_told(tmp_path):
    flags = ("subscribe", "--start", "earliest", "--until", "end", "--state", tmp_path / "state")
    for expected in (0, 1):
        with Serve("--store", "memory:") as server:
            with Command("publish", "a", "b", address=server.address) as publish:
                publish.wait()
            with Command(*flags, address=server.address) as reader:
                err = reader.rest("err")
                assert reader.wait() == expected

    assert len(err) == 1 and f"{tmp_path / 'state'} has offset 1 of epoch " in err[0]


def test_people_on_a_terminal_get_readable_lines_and_tables(server, run):
    run("publish", "host.cpu", "{\"a\": 1}", "--json-payload", "--key", "k")

    lines = on_terminal(server.address, "subscribe", "--start", "earliest", "--until", "end")
    table = on_terminal(server.address, "topics")

    assert "host.cpu" in lines and '{"a": 1}' in lines and "\x1b[" in lines
    assert '"topic"' not in lines
    assert "messages" in table and "host.cpu" in table and "{" not in table
