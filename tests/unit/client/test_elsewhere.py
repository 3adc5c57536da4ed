"""A client and a server that sends it to its workers: it goes there, comes back, and nothing is lost on the way."""

import socket

import pytest

from tests.unit.client.fake_server import DEADLINE_S, FakeServer, outcome, spawned
from zstreampub.client import Client, elsewhere, reader
from zstreampub.errors import ConnectionLost, EpochMismatch, LimitExceeded


@pytest.fixture
def server():
    server = FakeServer()
    server.limits = {"workers": []}
    yield server
    server.stop()


@pytest.fixture
def worker():
    worker = FakeServer()
    yield worker
    worker.stop()


def send_to(place, server, times=1, **fields):
    """Let *server* send the next *times* subscribers that can be moved to *place*, an endpoint."""
    left = [True] * times

    def subscribe(request):
        if left and request.options.get("movable"):
            left.pop()
            request.control("moved", endpoints={server.endpoint: place}, epoch="log-1", **fields)
            request.error("Moved")
        else:
            server.do_subscribe(request)
    server.on["subscribe"] = subscribe


def hold(request):
    """Leave a request without an answer."""


def options_of(server):
    return [request.options for request in server.named("subscribe")]


def test_a_subscription_is_read_where_the_server_sends_it(server, worker, client):
    send_to(worker.endpoint, server, offset=7)

    subscription = client.subscribe("a")
    worker.named("subscribe")[0].messages(7, "x")

    assert subscription.get(DEADLINE_S).payload == "x"
    assert options_of(server) == [{"start": "new", "format": "batch", "movable": True}]
    assert options_of(worker) == [{"start": 7, "epoch": "log-1", "format": "batch", "movable": True}]
    subscription.close()
    worker.wait_for("unsubscribe")
    assert server.named("unsubscribe") == []


@pytest.mark.parametrize("start", ["earliest", "last", 3, {"last": 2}])
def test_where_it_begins_the_worker_finds_unless_it_is_new(server, worker, client, start):
    send_to(worker.endpoint, server)

    client.subscribe("a", start=start)

    assert options_of(worker) == [{"start": start, "format": "batch", "movable": True}]


def test_two_subscriptions_at_a_worker_share_a_connection_that_is_closed_after_them(server, worker, client):
    send_to(worker.endpoint, server, times=2)
    one, other = client.subscribe("a"), client.subscribe("a")

    one.close()
    other.close()
    client._elsewhere.tidy()

    assert len({request.peer for request in worker.named("subscribe")}) == 1
    assert client._elsewhere._channels == {}


def test_it_resumes_at_the_server_when_the_worker_has_vanished(server, worker, client):
    send_to(worker.endpoint, server)
    subscription = client.subscribe("a", start="earliest")
    worker.named("subscribe")[0].messages(0, "x", "y")
    assert [subscription.get(DEADLINE_S).payload for _ in range(2)] == ["x", "y"]

    reading = spawned(subscription.get, DEADLINE_S)
    worker.stop()
    server.wait_for("subscribe", 2).messages(2, "z")

    assert outcome(reading).payload == "z"
    assert options_of(server)[1] == {"start": 2, "epoch": "log-1", "format": "batch", "movable": True}
    worker.start()


def test_a_subscription_that_is_not_to_resume_raises_when_the_worker_has_vanished(server, worker, client):
    send_to(worker.endpoint, server, offset=4)
    subscription = client.subscribe("a", reconnect=False)

    reading = spawned(subscription.get, DEADLINE_S)
    worker.stop()

    error = outcome(reading)
    assert isinstance(error, ConnectionLost) and error.resume == 4
    worker.start()


def test_it_stays_at_the_server_if_the_worker_cannot_be_reached(server, client, monkeypatch):
    monkeypatch.setattr(reader, "_AWAY_S", 0.05)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        send_to(f"tcp://127.0.0.1:{nobody.getsockname()[1]}", server, times=100, offset=4)

        subscription = client.subscribe("a", reconnect=False)

    assert subscription.offset == 4
    assert [one.get("movable") for one in options_of(server)] == [True, None]
    assert options_of(server)[1]["start"] == 4


def test_where_one_has_heard_nothing_no_other_goes_for_a_while(server, worker, client, monkeypatch):
    monkeypatch.setattr(reader, "_AWAY_S", 0.05)
    worker.on["subscribe"] = hold
    send_to(worker.endpoint, server, times=100, offset=4)
    client.subscribe("a")

    client.subscribe("b")

    assert len(worker.named("subscribe")) == 1
    assert [one.get("movable") for one in options_of(server)] == [True, None, True, None]
    monkeypatch.setattr(elsewhere, "_AVOID_S", 0.0)
    client.subscribe("c")
    assert len(worker.named("subscribe")) == 2


def test_it_stays_at_the_server_if_another_log_is_at_the_workers_place(server, worker, client):
    worker.on["subscribe"] = lambda request: request.greet(epoch="log-2", offset=0)
    send_to(worker.endpoint, server, offset=4)

    subscription = client.subscribe("a")

    assert (subscription.epoch, subscription.offset) == ("log-1", 4)


def test_it_asks_again_when_the_worker_is_lost_before_it_answers_and_stays_if_that_goes_on(server, worker, client):
    worker.on["subscribe"] = lambda request: worker.restart()
    send_to(worker.endpoint, server, times=100)

    client.subscribe("a")

    assert len(worker.named("subscribe")) == 3
    assert [one.get("movable") for one in options_of(server)] == [True, True, True, None]


def test_it_asks_again_where_the_worker_is_about_to_stop(server, worker, client):
    worker.on["subscribe"] = lambda request: request.error("ServerDraining")
    send_to(worker.endpoint, server)

    client.subscribe("a")

    assert [one.get("movable") for one in options_of(server)] == [True, True]


@pytest.mark.parametrize("error", [EpochMismatch, LimitExceeded])
def test_what_the_worker_refuses_the_server_decides(server, worker, client, error):
    worker.on["subscribe"] = lambda request: request.error(error.__name__)
    send_to(worker.endpoint, server)

    client.subscribe("a")

    server.on["subscribe"] = lambda request: request.error(error.__name__, "Not here, either.")
    with pytest.raises(error, match="either"):
        client.subscribe("a")


@pytest.mark.parametrize("endpoints", [{}, {"ipc:///run/a": "ipc:///run/b"}, None, "tcp://127.0.0.1:1"])
def test_it_stays_at_the_server_if_that_names_no_place_for_it(server, client, endpoints):
    def subscribe(request):
        if request.options.get("movable"):
            request.control("moved", endpoints=endpoints)
            request.error("Moved")
        else:
            server.do_subscribe(request)
    server.on["subscribe"] = subscribe

    client.subscribe("a")

    assert [one.get("movable") for one in options_of(server)] == [True, None]


def test_after_it_had_to_stay_it_can_be_moved_when_it_resumes(server, worker, client):
    send_to("ipc:///nowhere", server)
    subscription = client.subscribe("a")
    send_to(worker.endpoint, server)

    reading = spawned(subscription.get, DEADLINE_S)
    server.restart()
    worker.wait_for("subscribe").messages(0, "x")

    assert outcome(reading).payload == "x"


@pytest.mark.parametrize("reconnect", [True, False])
def test_it_goes_on_at_the_server_when_the_worker_lets_it_go(server, worker, client, reconnect):
    send_to(worker.endpoint, server, offset=0)
    subscription = client.subscribe("a", reconnect=reconnect)
    worker.named("subscribe")[0].messages(0, "x")
    worker.named("subscribe")[0].end("Moved", 1)
    assert subscription.get(DEADLINE_S).payload == "x"

    reading = spawned(subscription.get, DEADLINE_S)
    server.wait_for("subscribe", 2).messages(1, "y")

    assert outcome(reading).payload == "y"


def test_a_server_that_knows_nothing_of_workers_is_not_told_that_it_can_move(server, client):
    server.limits = {}
    server.restart()
    with Client(server.endpoint, timeout_s=DEADLINE_S) as one:

        one.subscribe("a")

    assert options_of(server) == [{"start": "new", "format": "batch"}]


def test_a_client_that_wants_no_workers_is_not_moved(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S, workers=False) as client:
        client.subscribe("a")

    assert options_of(server) == [{"start": "new", "format": "batch"}]


def test_workers_are_asked_by_their_numbers_and_who_is_away_is_left_out(server, worker, client):
    here, nowhere = [{"worker": number, "endpoints": {server.endpoint: place}}
                     for number, place in ((1, worker.endpoint), (2, "ipc:///nowhere"))]
    server.limits = {"workers": [here, nowhere]}
    worker.on["subscriptions"] = lambda request: request.ok([{"id": "there"}])
    server.on["subscriptions"] = lambda request: request.ok([{"id": "here"}])

    assert client.ask_workers("subscriptions") == {1: [{"id": "there"}]}
    assert client.subscriptions() == [{"id": "here"}, {"id": "there", "worker": 1}]
