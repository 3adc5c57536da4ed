"""``zstreampub outbox`` with real processes: what a program has left behind is shown, and sent."""

import json

import pytest

from tests.integration.commands import Command
from tests.processes import ServerProcess
from zstreampub import Client

NOWHERE = "tcp://127.0.0.1:1"


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server", max_message_bytes=1_000) as server:
        yield server


@pytest.fixture
def place(tmp_path):
    """An outbox that somebody has left."""
    with Client(NOWHERE, outbox=tmp_path / "outbox") as client:
        client.publish_many("left.behind", range(500))
        client.publish("left.behind", bytes(5_000))
        client.publish("left.behind", "last")
    return tmp_path / "outbox"


def run(*args, **more):
    with Command("outbox", *args, **more) as command:
        out, err = command.rest("out"), command.rest("err")
        return command.wait(), [json.loads(line) for line in out], "\n".join(err)


def test_it_is_shown_and_sent_and_what_was_refused_is_shown_and_forgotten(place, server):
    code, [row], err = run(place)
    assert (code, err, row["messages"], row["refused"]) == (0, "", 502, 0) and row["bytes"] > 5_000 and row["age_s"] > 0

    code, _, err = run(place, "--send", "--timeout-s", "30", address=server.endpoint)
    assert code == 1 and "502 messages sent; of 1 publishes refused" in err
    code, [row], _ = run(place, "--refused")
    assert (code, row["topic"], row["messages"]) == (0, "left.behind", 1) and "MessageTooLarge" in row["error"]
    with Client(server.endpoint) as client:
        found = [message.payload for message in client.subscribe("left.>", start="earliest", until="end")]
    assert found == [*range(500), "last"]

    code, _, err = run(place, "--clear-refused")
    assert code == 0 and "1 forgotten" in err
    assert run(place)[1] == [{"messages": 0, "bytes": 0, "age_s": 0.0, "refused": 0}]


def test_without_a_server_all_stays_there(place):
    code, _, err = run(place, "--send", "--timeout-s", "300ms", address=NOWHERE)

    assert code == 3 and "still in the outbox" in err
    assert run(place)[1][0]["messages"] == 502


def test_what_is_no_outbox_is_named(tmp_path):
    code, _, err = run(tmp_path)
    assert code == 4 and "no outbox" in err
    assert run(tmp_path, "--send", "--timeout-s", "1s")[0] == 4 and list(tmp_path.iterdir()) == []
    assert run(tmp_path / "not there")[0] == 2
    assert run(tmp_path, "--send", "--refused")[0] == 2
