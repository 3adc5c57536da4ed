"""The callback form: what a function does with a message decides what becomes of it."""

import gevent
import pytest

from tests.unit.client.fake_server import DEADLINE_S, outcome, sealed, spawned, turn
from tests.unit.client.members import acked, joined, said
from zstreampub.errors import ConsumerDeleted, InvalidOption, UndecodablePayload
from zstreampub.message import Batch

# --- callbacks ------------------------------------------------------------------------------------


def test_a_callback_acks_when_it_returns_and_nacks_when_it_raises(server, client, caplog):
    consumption, _ = joined(server, client, sealed(0, 0, 1, 2))

    def work(delivery):
        if delivery.payload == 1:
            raise ValueError("not this one")
    running = spawned(consumption.run, work)
    server.wait(lambda: server.named("nack") and acked(server) == [0, 2])
    consumption.close()

    assert outcome(running) is None
    assert said(server, "nack") == [[[[1, 2, 1]], {"reason": "ValueError: not this one"}]]
    assert "ValueError: not this one" in caplog.text


@pytest.mark.parametrize("verdict, verb", [(None, "nack"), ("nack", "nack"), ("reject", "reject")])
def test_on_exception_says_what_becomes_of_the_message(server, client, verdict, verb):
    consumption, _ = joined(server, client, sealed(0, 0))
    seen = []

    def judge(error, delivery):
        seen.append((str(error), delivery.offset))
        return verdict
    running = spawned(consumption.run, lambda delivery: 1 / 0, on_exception=judge)
    server.wait_for(verb)
    consumption.close()
    outcome(running)

    assert seen == [("division by zero", 0)]
    assert said(server, verb) == [[[[0, 1, 1]], {"reason": "ZeroDivisionError: division by zero"}]]


@pytest.mark.parametrize("workers", [1, 3])
def test_on_exception_may_stop_all_and_the_error_is_raised(server, client, workers):
    consumption, _ = joined(server, client, sealed(0, *range(9)))
    finished = []

    def work(delivery):
        if delivery.offset == 1:
            raise ValueError("enough")
        turn()
        finished.append(delivery.offset)
    running = spawned(consumption.run, work, workers=workers, on_exception=lambda *_: "stop")

    assert str(outcome(running)) == "enough"
    server.wait_for("nack")
    server.wait(lambda: acked(server) == sorted(finished))
    assert 1 not in finished and len(finished) < 8


@pytest.mark.parametrize("judge, error", [(lambda *_: "later", InvalidOption), (lambda *_: 1 / 0, ZeroDivisionError)])
def test_a_mistake_in_on_exception_stops_and_gives_the_message_back(server, client, judge, error):
    consumption, _ = joined(server, client, sealed(0, 0))

    def work(_):
        raise ValueError
    running = spawned(consumption.run, work, on_exception=judge)

    assert isinstance(outcome(running), error)
    server.wait_for("nack")


def test_a_pool_works_on_as_many_messages_as_it_has_workers(server, client):
    consumption, _ = joined(server, client, sealed(0, *range(6)))
    at_work, go = [], gevent.event.Event()

    def work(delivery):
        at_work.append(delivery.offset)
        go.wait()
    running = spawned(consumption.run, work, workers=3)
    server.wait(lambda: len(at_work) == 3)
    turn()
    at_once = list(at_work)
    go.set()
    server.wait(lambda: len(at_work) == 6)
    consumption.close()

    assert outcome(running) is None
    assert at_once == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_pool_that_is_stopped_finishes_what_it_works_on_and_takes_nothing_more(server, client, workers):
    consumption, _ = joined(server, client, sealed(0, *range(3)))
    at_work, go = [], gevent.event.Event()

    def work(delivery):
        at_work.append(delivery.offset)
        go.wait()
    running = spawned(consumption.run, work, workers=workers)
    server.wait(lambda: len(at_work) == min(workers, 3))
    turn()

    consumption.stop()
    go.set()

    assert outcome(running) is None
    consumption.close()
    assert acked(server) == at_work == list(range(min(workers, 3)))
    assert [request.name for request in server.requests][-1] == "unsubscribe"


def test_a_pool_that_is_killed_gives_back_what_it_works_on(server, client):
    consumption, _ = joined(server, client, sealed(0, 0, 1))
    at_work: list = []

    def work(delivery):
        at_work.append(delivery)
        gevent.sleep(DEADLINE_S)
    running = spawned(consumption.run, work, workers=2)
    server.wait(lambda: len(at_work) == 2)

    running.kill()
    server.wait_for("nack")

    assert said(server, "nack") == [[[[0, 2, 1]], {"delay_s": 0, "reason": "The worker was stopped."}]]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_gap_that_nobody_wants_to_be_told_is_logged_and_the_work_goes_on(server, client, caplog, workers):
    consumption, stream = joined(server, client, sealed(0, "before"))
    stream.control("gap", first=1, next=5, count=4, why="expired")
    stream.hand_out(2, sealed(5, "after"))

    running = spawned(consumption.run, lambda delivery: None, workers=workers)
    server.wait(lambda: acked(server) == [0, 5])
    consumption.close()

    assert outcome(running) is None
    assert "4 messages in [1, 5) will not come (expired)" in caplog.text
    assert consumption.gaps == 1


def test_a_callback_may_settle_the_message_itself(server, client):
    consumption, _ = joined(server, client, sealed(0, 0))
    running = spawned(consumption.run, lambda delivery: delivery.nack(delay_s=5))
    server.wait_for("nack")
    consumption.close()
    outcome(running)

    assert not server.named("ack")


def test_a_consumer_that_is_deleted_ends_a_pool_with_that_error(server, client):
    consumption, stream = joined(server, client)
    running = spawned(consumption.run, print, workers=3)
    turn()
    stream.end("ConsumerDeleted", 0)

    assert isinstance(outcome(running), ConsumerDeleted)


@pytest.mark.parametrize("workers", [0, -1, "many", 1.5])
def test_a_pool_has_a_number_of_workers(server, client, workers):
    consumption, _ = joined(server, client)

    with pytest.raises(InvalidOption):
        consumption.run(print, workers=workers)


# --- what cannot be decoded -----------------------------------------------------------------------


def broken():
    batch = Batch.of("a", [b"{"], headers=[{"content-type": "application/json"}])
    batch.seal(0, 1_700_000_000_000_000)
    return batch


def test_a_payload_that_cannot_be_decoded_becomes_a_dead_letter_and_is_not_called_for(server, client, caplog):
    consumption, _ = joined(server, client, broken(), sealed(1, "whole"))
    worked = []

    running = spawned(consumption.run, lambda delivery: worked.append(delivery.offset))
    server.wait(lambda: server.named("reject") and acked(server) == [1])
    consumption.close()

    assert outcome(running) is None and worked == [1]
    (_, said_why), = said(server, "reject")
    assert said_why["reason"].startswith("UndecodablePayload: The payload of message 0 of a cannot be decoded: ")
    assert "becomes a dead letter" in caplog.text


@pytest.mark.parametrize("verdict, verb", [(None, "reject"), ("reject", "reject"), ("nack", "nack"), ("stop", "nack")])
def test_on_exception_may_say_otherwise_of_it(server, client, verdict, verb):
    consumption, _ = joined(server, client, broken())

    running = spawned(consumption.run, pytest.fail, on_exception=lambda error, delivery: verdict)
    server.wait_for(verb)
    consumption.close()

    assert (type(outcome(running)) is UndecodablePayload) == (verdict == "stop")
