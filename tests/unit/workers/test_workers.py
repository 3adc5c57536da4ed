"""The writer's side of workers: how many, where, on what."""

import errno
import socket

import gevent
import pytest

from tests.processes import wait_until
from zstreampub import Broker, Client, Server, Service, Settings, Workers
from zstreampub.errors import InvalidOption, Moved
from zstreampub.policy import BUILT_IN, Policy
from zstreampub.workers import workers as module
from zstreampub.workers.workers import Worker

ENDPOINT = "tcp://127.0.0.1:0"
SPILL = BUILT_IN["spill"]()


@pytest.fixture
def broker(tmp_path):
    with Broker.open(f"lmdb:{tmp_path / 'store'}", Settings(drain_timeout_s=1.0)) as broker:
        yield broker


def serving(broker, *loads):
    """Return Workers that seem to serve, with so many subscriptions each."""
    workers = Workers(broker, len(loads), [ENDPOINT])
    workers._endpoints = ["tcp://127.0.0.1:1"]
    for at, (worker, load) in enumerate(zip(workers._workers, loads), 2):
        worker.pid = at
        worker._take({"endpoints": [f"tcp://127.0.0.1:{at}"], "subscriptions": load, "opened": load})
    return workers


def sent_to(workers, start="new", policy=SPILL):
    """Return the number of the worker to which a subscription is sent, None if to none."""
    try:
        workers.offer(start, policy)
    except Moved as moved:
        place, = moved.endpoints.values()
        return int(place.rpartition(":")[2]) - 1
    return None


def test_an_embedded_server_can_have_workers(broker):
    server = Server(Service(broker))
    server.bind(ENDPOINT)
    workers = Workers(broker, 1, [ENDPOINT])
    workers.start(server.endpoints)
    try:
        wait_until(workers.describe, "a worker")
        with Client(server.endpoints[0]) as client:
            subscription = client.subscribe("a")
            offset = broker.publish("a", "x")

            assert next(subscription).offset == offset
            assert [one["worker"] for one in client.subscriptions()] == [1]
            assert broker.subscriptions == {}
    finally:
        workers.close()
        server.close()
    assert broker.workers is None


def test_a_worker_that_cannot_be_started_is_started_later(broker, monkeypatch):
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    start, refused = Worker._start, [OSError(errno.EAGAIN, "no process"), OSError(errno.ENOMEM, "no memory")]

    def start_later(self, *arguments):
        if refused:
            raise refused.pop()
        return start(self, *arguments)
    monkeypatch.setattr(Worker, "_start", start_later)
    workers = Workers(broker, 1, [ENDPOINT])
    workers.start(["tcp://127.0.0.1:1"])
    try:
        wait_until(workers.describe, "a worker")
    finally:
        workers.close()


def test_there_is_one_endpoint_for_each_worker(broker):
    with pytest.raises(InvalidOption, match="2 workers and 1 endpoints"):
        Workers(broker, 2, [ENDPOINT], ["tcp://127.0.0.1:1"])


def test_a_log_in_memory_has_no_workers():
    with Broker.open("memory:") as broker, pytest.raises(InvalidOption, match="lmdb"):
        Workers(broker, 1, [ENDPOINT])


def test_each_subscription_goes_to_the_worker_with_the_fewest(broker):
    workers = serving(broker, 3, 0, 1)

    assert [sent_to(workers) for _ in range(5)] == [2, 2, 3, 2, 3]


def test_who_was_sent_counts_until_it_has_arrived(broker):
    workers = serving(broker, 0, 1)
    worker = workers._workers[0]
    assert (sent_to(workers), worker.load) == (1, 1)

    worker._take({"endpoints": ["tcp://127.0.0.1:2"], "subscriptions": 1, "opened": 1})

    assert worker.load == 1


def test_who_was_sent_and_does_not_arrive_counts_no_more_after_a_while(broker, monkeypatch):
    workers = serving(broker, 0)
    sent_to(workers)

    monkeypatch.setattr(module, "_ARRIVAL_S", 0.0)

    assert workers._workers[0].load == 0


def test_what_is_new_begins_where_the_writer_is(broker):
    broker.publish("a", 1)

    with pytest.raises(Moved) as moved:
        serving(broker, 0).offer("new", SPILL)

    assert moved.value.offset == 1 and moved.value.epoch == broker.epoch


class Own(Policy):
    name = "own"


@pytest.mark.parametrize("start, policy", [("new", BUILT_IN["block"]()), ("new", Own()), (1, SPILL), (1.0, SPILL)])
def test_what_a_worker_would_refuse_stays_at_the_writer(broker, start, policy):
    assert sent_to(serving(broker, 0), start, policy) is None


def test_with_a_new_worker_the_others_and_the_writer_let_go_of_what_is_more_than_their_share(broker):
    workers = serving(broker, 8, 3, 0)
    broker.workers = workers
    for worker in workers._workers:
        worker.asked = []
        worker.let_go = worker.asked.append
    workers._workers[0].endpoints = []      # or it would be sent there
    workers._workers[1].endpoints = workers._workers[2].endpoints = []
    here = broker.subscribe("a", movable=True)
    own = broker.subscribe("a")
    for worker in workers._workers:
        worker.endpoints = ["tcp://127.0.0.1:2"]

    workers.share_out()

    assert [worker.asked for worker in workers._workers] == [[4], [-1], [-4]]
    assert isinstance(here.error, Moved) and not own.ended


def test_while_no_worker_serves_everything_stays_at_the_writer(broker):
    assert sent_to(Workers(broker, 2, [ENDPOINT])) is None


def test_waking_a_worker_whose_line_is_full_or_broken_does_nothing(broker):
    worker = Worker(1, [ENDPOINT])
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        worker._line = ours
        with theirs, gevent.Timeout(20):
            for _ in range(100_000):
                worker.wake()

        worker.wake()
