"""``subscribe --state``: what is kept, when, and where the next run begins; the client is an imitation."""

import json

import pytest

from tests.unit.fake_client import sealed
from zstreampub import errors
from zstreampub.cli.state import State


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def subscribe(run, path):
    def subscribe(*args):
        return run("subscribe", "--format", "payload", "--state", str(path), *args)
    return subscribe


def kept(path):
    return json.loads(path.read_text())


def test_without_a_file_it_begins_at_start_and_keeps_where_it_ended(subscribe, client, path):
    client.batches = [sealed(3, "x", "y"), sealed(7, "z")]

    code, out, err = subscribe("--start", "earliest")

    assert (code, out, err) == (0, "x\ny\nz\n", "")
    assert client.asked[1]["start"] == "earliest" and client.asked[1]["epoch"] is None
    assert kept(path) == {"offset": 8, "epoch": "e"}
    assert [file.name for file in path.parent.iterdir()] == ["state"]


def test_with_a_file_it_begins_there_in_the_same_log(subscribe, client, path):
    path.write_text('{"offset": 8, "epoch": "e"}')

    subscribe("--start", "earliest")

    assert client.asked[1]["start"] == 8 and client.asked[1]["epoch"] == "e"
    assert kept(path) == {"offset": 8, "epoch": "e"}


def test_count_in_the_middle_of_a_batch_keeps_the_offset_after_the_last_printed(subscribe, client, path):
    client.batches = [sealed(3, "a", "b", "c")]

    subscribe("--count", "2")

    assert kept(path)["offset"] == 5


def test_where_nothing_came_the_place_of_the_greeting_is_kept(subscribe, client, path):
    subscribe()

    assert kept(path) == {"offset": 3, "epoch": "e"}


def test_keepalives_and_the_end_move_what_is_kept_but_a_later_greeting_does_not(subscribe, client, path):
    client.batches = [{"control": "keepalive", "offset": 100},
                      {"control": "subscribed", "offset": 500, "epoch": "e"}, KeyboardInterrupt()]
    assert subscribe()[0] == 130
    assert kept(path)["offset"] == 100

    client.batches = [{"control": "end", "resume": 200}]
    assert subscribe()[0] == 0
    assert kept(path)["offset"] == 200


def test_what_could_not_be_printed_is_not_kept(subscribe, client, path, monkeypatch):
    def refuse(_):
        raise OSError(28, "No space left on device")
    client.batches = [sealed(3, "a"), lambda: monkeypatch.setattr("zstreampub.cli.screen.Out.flush", refuse),
                      sealed(4, "b")]

    code, out, _ = subscribe()

    assert (code, out) == (1, "a\n")
    assert kept(path)["offset"] == 4


@pytest.mark.parametrize("error", [errors.EpochMismatch("Another log."), errors.OffsetOutOfRange("Too high.")])
def test_a_state_of_another_log_is_explained_and_left_alone(subscribe, client, path, error):
    path.write_text('{"offset": 8, "epoch": "old"}')
    client.batches = [error]

    code, _, err = subscribe()

    assert code == 1 and err.count("\n") == 1
    assert str(path) in err and "offset 8 of epoch old" in err and "remove it" in err
    assert kept(path) == {"offset": 8, "epoch": "old"}


@pytest.mark.parametrize("content", ["", "7", "[]", "{}", '{"offset": -1, "epoch": "e"}', '{"offset": 1}', "\udcff"])
def test_a_file_that_is_no_state_is_wrong_usage_and_left_alone(subscribe, client, path, content):
    path.write_text(content, errors="surrogateescape")

    code, _, err = subscribe()

    assert code == 2 and f"{path} is no state" in err
    assert path.read_text(errors="surrogateescape") == content


def test_a_state_keeps_the_epoch_itself(subscribe):
    code, _, err = subscribe("--epoch", "e")

    assert code == 2 and "leave --epoch out" in err


def test_a_state_that_cannot_be_written_ends_the_run(run, client, tmp_path):
    code, _, err = run("subscribe", "--state", str(tmp_path / "none" / "state"))

    assert code == 1 and "none/state" in err


def test_the_file_is_written_at_most_once_in_a_period(path, monkeypatch):
    state = State(path)
    state.epoch = "e"
    clock = iter([0.0, 0.0, 0.1, 0.6, 0.6])
    monkeypatch.setattr("zstreampub.cli.state.time.monotonic", lambda: next(clock))

    written = []
    for offset in (1, 2, 3):
        state.reach(offset)
        written.append(kept(path)["offset"])

    assert written == [1, 1, 3]


def test_a_link_to_the_file_stays_a_link(path, tmp_path):
    real = tmp_path / "real"
    path.symlink_to(real)
    state = State(path)
    state.see({"control": "subscribed", "offset": 1, "epoch": "e"})

    state.keep()

    assert path.is_symlink() and kept(real)["offset"] == 1
