"""The quickstart, as a newcomer runs it: it makes its own environment, so the first test takes a while."""

import gzip
import json
import re
import shutil
import signal
import socket

import psutil
import pytest

from tests.integration.commands import ROOT, Running, environment
from tests.need import need

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def quickstart(tmp_path):
    """Start the quickstart on a log and a port of its own."""
    need(shutil.which("bash") and shutil.which("flock"), "there is no bash or no flock")

    def start(*args, shell='exec "$@"', **more):
        env = environment(QUICKSTART_DATA=str(tmp_path / "log"), **{"ZSTREAMPUB_BIND": free_endpoint(), **more})
        env.pop("PYTHONPATH")       # it must find what it has installed, nothing else
        argv = ["bash", "-c", shell, "bash", str(ROOT / "deploy" / "quickstart"), *map(str, args)]
        return Running(argv, cwd=tmp_path, env=env, wait_s=240)

    yield start
    assert left_over(str(tmp_path)) == []


def free_endpoint():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def left_over(word):
    """Return the command lines of processes that have *word* in theirs."""
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if word in line]


def test_live_readings_arrive_and_ctrl_c_ends_everything_and_the_next_run_finds_the_log(quickstart):
    with quickstart() as first:
        first.line(matching="In another terminal")
        reading = json.loads(first.line(matching='"topic": "host.memory.used"'))
        first.line(matching="host.load.15")
        first.signal(signal.SIGINT)
        assert first.wait() == 0
        assert "Everything has ended" in first.rest()[-1]

    assert reading["payload"]["unit"] == "bytes" and reading["payload"]["value"] > 0
    with quickstart(QUICKSTART_SECONDS="1") as second:
        kept = int(re.search(r"already has (\d+) messages", second.line(matching="already"))[1])
        assert second.wait() == 0

    assert kept >= 10


def test_a_file_is_published_under_a_topic_that_fits_and_read_back(quickstart, tmp_path):
    path = tmp_path / "flights.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"origin": "SFO", "destination": "A%d"}\n' % n for n in range(50))))

    with quickstart(path, QUICKSTART_SECONDS="1") as run:
        assert "flights.{origin}.{destination}" in run.line(matching="Publishing")
        assert "flights.SFO.A49" in run.line(matching="SFO.A49")
        assert run.wait() == 0
        assert "50 messages in" in "\n".join(run.rest("err"))


def test_a_file_of_plain_lines_is_taken_as_text(quickstart, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one\ntwo\n")

    with quickstart("words.txt", QUICKSTART_SECONDS="1") as run:
        assert "--lines lines.words_txt" in run.line(matching="Publishing")
        assert "two" in run.line(matching="lines.words_txt .*two")
        assert run.wait() == 0


def test_a_port_that_is_taken_is_told(quickstart):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with quickstart(ZSTREAMPUB_BIND=f"tcp://127.0.0.1:{taken.getsockname()[1]}") as run:
            assert "is taken; set ZSTREAMPUB_BIND" in run.line("err", "taken")
            assert run.wait() == 1


def test_a_second_run_on_the_same_log_says_that_another_is_running(quickstart):
    with quickstart() as first:
        first.line(matching="In another terminal")

        with quickstart() as second:
            assert "Is another quickstart running" in second.line("err", "another quickstart")
            assert second.wait() == 1

        first.signal(signal.SIGTERM)
        assert first.wait() == 0


def test_a_file_that_is_not_there_is_told_before_anything_starts(quickstart):
    with quickstart("nowhere.jsonl") as run:
        assert "nowhere.jsonl" in run.line("err", "There is no file")
        assert run.wait() == 1


def test_when_nobody_reads_its_output_any_more_it_ends_with_all_its_children(quickstart):
    with quickstart(shell='"$@" | grep -m 1 "host.load.1"') as run:
        assert "host.load.1" in run.line()

        assert run.wait() == 0
