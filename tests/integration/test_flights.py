"""The main job on real input: a file of flights is published while two listen, and a third comes later.

The file is made here: a few thousand lines of the shape of real ones.
"""

import gzip
import json
import random

import gevent
import pytest

from tests.processes import Child, client, messages, wait_until
from zstreampub import Client

AIRPORTS = ("SFO", "LAX", "JFK", "ORD", "ATL", "SEA", "DEN", "BOS", "MIA", "DFW")
COUNT = 4_000


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    """``(path, rows)``: a JSONL.gz of flights, one a line, and the same as a list."""
    chance = random.Random(2001)
    rows = []
    for number in range(COUNT):
        origin, destination = chance.sample(AIRPORTS, 2)
        time = f"{chance.randrange(24):02}:{chance.randrange(60):02}"
        rows.append({"date": f"2001/01/{1 + number * 31 // COUNT:02} {time}", "delay": chance.randrange(-20, 180),
                     "distance": chance.randrange(100, 2_700), "origin": origin, "destination": destination})
    path = tmp_path_factory.mktemp("flights") / "flights.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    return path, rows


def _topic(row):
    return f"flights.{row['origin']}.{row['destination']}"


def _grep(path, text):
    """Return the rows of the lines that have *text* in them, as ``zcat | grep`` would."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file if text in line]


def _listen_with_ours(endpoint, found):
    with Client(endpoint) as ours, ours.subscribe("flights.>") as subscription:
        found.append(subscription.offset)
        for message in subscription:
            found.append((message.topic, message.offset, message.payload))


def _listen_with_stock(endpoint, found):
    with client(endpoint) as stock:
        for item in stock.subscribe("flights.>"):
            found.append(item if "control" in item else (item["topic"], item["offset"], item["payload"]))


def test_two_listeners_and_one_who_comes_later_get_every_flight_in_order(server, flights, tmp_path):
    path, rows = flights
    ours, stock = [], []
    listeners = [gevent.spawn(_listen_with_ours, server.endpoint, ours),
                 gevent.spawn(_listen_with_stock, server.endpoint, stock)]
    wait_until(lambda: ours and stock, "both to listen")

    command = ["publish", "--address", server.endpoint, "--json", "flights.{origin}.{destination}", str(path)]
    with Child(tmp_path / "publisher", "zstreampub.cli", *command) as publisher:
        assert publisher.wait() == 0, publisher.log()

    wait_until(lambda: min(len(ours), len(stock)) > COUNT, lambda: f"all flights, not {len(ours)}, {len(stock)}")
    gevent.killall(listeners)
    assert [(topic, payload) for topic, _, payload in ours[1:]] == [(_topic(row), row) for row in rows]
    assert ours[1:] == stock[1:]
    _check_replay(server, path)


def _check_replay(server, path):
    wanted = _grep(path, '"origin":"SFO"')
    assert len(wanted) > 100
    with client(server) as stock:
        got = messages(stock.subscribe("flights.SFO.>", {"start": "earliest", "until": "end"}))
        assert [message["payload"] for message in got] == wanted
    with Client(server.endpoint) as ours:
        with ours.subscribe("flights.SFO.>", start="earliest", until="end") as subscription:
            assert [message.payload for message in subscription] == wanted
        assert sum(topic["messages"] for topic in ours.topics("flights.SFO.*")) == len(wanted)


