"""Publishing through the client: what callers share, and what becomes of it when things go wrong."""

import gevent
import pytest

from tests.unit.client.fake_server import DEADLINE_S, append_of, outcome, spawned, turn
from zstreampub.client import Client
from zstreampub.client.publisher import PIPELINE, SEQUENCES
from zstreampub.errors import (
    BatchTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    InternalError,
    InvalidOption,
    InvalidPayload,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    RequestError,
    RequestTimeout,
    StoreFull,
)
from zstreampub.message import Batch


@pytest.fixture
def client(server):
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        client.about()
        yield client


def hold(request):
    """Leave a request without an answer."""


def refuse(poison, name="LimitExceeded"):
    """Return an answer to ``append`` that refuses what has the payload *poison* and stores the rest."""
    def answer(request):
        if any(poison in payloads for _, payloads in append_of(request)):
            request.error(name, "Not this one.")
        else:
            request.server.do_append(request)
    return answer


def sequences(server):
    return [request.args[1]["sequence"] for request in server.named("append")]


def test_publish_returns_the_offset_of_its_message(server, client):
    offsets = [client.publish("a", payload) for payload in ("x", {"y": 1}, None)]

    assert offsets == [0, 1, 2]
    assert server.log == [("a", "x"), ("a", {"y": 1}), ("a", None)]


def test_publish_many_returns_the_range_of_its_messages(server, client):
    client.publish("a", 0)

    assert client.publish_many("a", iter([1, 2, 3])) == (1, 4)
    assert client.publish_many("b", [4]) == (4, 5)


def test_a_list_that_is_larger_than_a_batch_goes_as_several_in_one_request(server, client):
    server.limits = {"max_batch_messages": 4}
    server.restart()
    client.about()

    assert client.publish_many("a", range(10)) == (0, 10)

    [request] = server.named("append")
    assert [len(payloads) for _, payloads in append_of(request)] == [4, 4, 2]


def test_metadata_reaches_the_server(server, client):
    client.publish("a", 1, headers={"h": True}, key="k", id=b"i")
    client.publish_many("a", [1, 2], headers={"h": 1}, keys=[None, "k"])

    first, second = (Batch.parse(request.args[0][0]).metadata for request in server.named("append"))
    assert first == {"key": ["k"], "id": [b"i"], "headers": [{"h": True}]}
    assert second == {"key": [None, "k"], "headers": [{"h": 1}, {"h": 1}]}


def test_the_publishes_of_one_turn_of_the_loop_share_a_request_and_each_gets_its_own_offset(server, client):
    tasks = [spawned(client.publish, "ab"[at // 4], at) for at in range(8)]

    offsets = [outcome(task) for task in tasks]

    assert offsets == list(range(8))
    [request] = server.named("append")
    assert append_of(request) == [("a", [0, 1, 2, 3]), ("b", [4, 5, 6, 7])]


def test_who_has_published_alone_is_sent_at_once_and_the_others_of_that_turn_follow_together(server, client):
    client.publish("a", 0)

    tasks = [spawned(client.publish, "a", at) for at in range(1, 9)]

    assert [outcome(task) for task in tasks] == list(range(1, 9))
    assert [append_of(request) for request in server.named("append")[1:]] == [[("a", [1])], [("a", list(range(2, 9)))]]


def test_callers_who_share_their_requests_go_on_sharing_them(server, client):
    def publish_twice(at):
        return client.publish("a", at), client.publish("a", at)

    tasks = [spawned(publish_twice, at) for at in range(8)]
    for task in tasks:
        outcome(task)

    assert [append_of(request) for request in server.named("append")] == [[("a", list(range(8)))]] * 2


def test_nobody_is_sent_at_once_while_something_is_under_way(server, client):
    client.publish("a", 0)
    server.on["append"] = hold
    producer = client.producer(linger_s=60)
    futures = [producer.publish("a", at) for at in (1, 2)]
    with pytest.raises(RequestTimeout):
        producer.flush(timeout_s=0.05)

    tasks = [spawned(client.publish, "a", at) for at in (3, 4)]
    server.wait_for("append", 3)
    server.on.clear()
    for request in server.named("append")[1:]:
        server.do_append(request)

    assert [future.get() for future in futures] + [outcome(task) for task in tasks] == [1, 2, 3, 4]
    assert [append_of(request) for request in server.named("append")[1:]] == [[("a", [1, 2])], [("a", [3, 4])]]


def test_every_request_has_the_clients_name_and_a_growing_sequence(server, client):
    for at in range(3):
        client.publish("a", at)

    names = {request.args[1]["producer"] for request in server.named("append")}
    assert sequences(server) == [1, 2, 3]
    assert len(names) == 1 and len(names.pop()) == 16


def test_at_most_a_pipeline_of_requests_is_under_way_and_the_rest_is_packed_together(server, client):
    server.on["append"] = hold
    tasks = []
    for at in range(PIPELINE + 10):
        tasks.append(spawned(client.publish, "a", at))
        turn()
    server.wait_for("append", PIPELINE)
    turn()
    assert len(server.named("append")) == PIPELINE
    server.on.clear()

    for request in server.named("append"):
        server.do_append(request)

    assert [outcome(task) for task in tasks] == list(range(PIPELINE + 10))
    assert len(server.named("append")) == PIPELINE + 1
    assert append_of(server.named("append")[-1]) == [("a", list(range(PIPELINE, PIPELINE + 10)))]


def test_answers_may_come_in_another_order_than_the_requests(server, client):
    server.on["append"] = hold
    tasks = []
    for at in range(3):
        tasks.append(spawned(client.publish, "a", at))
        server.wait_for("append", at + 1)

    for at in (2, 0, 1):
        server.named("append")[at].ok([100 + at])

    assert [outcome(task) for task in tasks] == [100, 101, 102]


def test_a_request_without_an_answer_stays_among_the_sequences_that_the_server_remembers(server, client):
    held = []
    server.on["append"] = lambda request: server.do_append(request) if held else held.append(request)
    first = gevent.spawn(client.publish, "slow", 0)
    server.wait_for("append", 1)
    for _ in range(SEQUENCES - 1):
        client.publish("quick", 0)

    late = gevent.spawn(client.publish, "quick", 0)
    turn()

    assert sequences(server) == list(range(1, SEQUENCES + 1))
    server.do_append(held[0])
    assert outcome(first) is not None and outcome(late) is not None
    assert sequences(server)[-1] == SEQUENCES + 1


def test_unanswered_requests_are_sent_again_in_order_with_their_sequence_after_a_lost_connection(server, client):
    server.on["append"] = hold
    tasks = []
    for at in range(3):
        tasks.append(spawned(client.publish, "a", at))
        server.wait_for("append", at + 1)
    server.on["append"] = server.do_append
    for request in server.named("append")[:2]:      # stored, but the answer is lost
        request.ok = lambda value: None
        server.do_append(request)

    server.restart()

    assert [outcome(task) for task in tasks] == [0, 1, 2]
    assert sequences(server) == [1, 2, 3, 1, 2, 3]
    assert server.log == [("a", 0), ("a", 1), ("a", 2)]


def test_an_overloaded_server_is_asked_again_in_order_and_with_the_same_sequence(server, client):
    refused = []

    def refuse_once(request):
        refused.append(request.args[1]["sequence"])
        server.on.clear()
        request.error("Overloaded")

    server.on["append"] = refuse_once
    tasks = [spawned(client.publish, "a", number) for number in range(3)]

    assert [outcome(task) for task in tasks] == [0, 1, 2]
    assert [request.args[1]["sequence"] for request in server.named("append")] == [*refused, *refused]


def test_a_draining_server_is_asked_again_in_order(server, client):
    server.on["append"] = lambda request: request.error("ServerDraining")
    tasks = [spawned(client.publish, "a", 0)]
    server.wait_for("append")
    turn()
    tasks.append(spawned(client.publish, "a", 1))
    turn()
    server.on.clear()

    server.restart()

    assert [outcome(task) for task in tasks] == [0, 1]


@pytest.mark.parametrize("call, error", [
    (lambda client: client.publish("a b", 1), InvalidTopic),
    (lambda client: client.publish("a", {1: 2}), InvalidPayload),
    (lambda client: client.publish("a", b"x" * 100), MessageTooLarge),
    (lambda client: client.publish_many("a", [b"x" * 50] * 2000), BatchTooLarge),
    (lambda client: client.publish_many("a", [1, b"x" * 100]), MessageTooLarge),
])
def test_what_the_server_would_refuse_is_refused_here_and_not_sent(server, client, call, error):
    server.limits = {"max_message_bytes": 64, "max_batch_bytes": 10_000}
    server.restart()
    client.about()

    with pytest.raises(error):
        call(client)

    assert not server.named("append")
    assert client.publish("a", 1) == 0


def test_one_refused_message_hurts_nobody_who_shared_its_request(server, client):
    server.on["append"] = refuse("poison")

    tasks = [spawned(client.publish, "a", payload) for payload in (0, "poison", 2)]

    first, refused, last = map(outcome, tasks)
    assert isinstance(refused, LimitExceeded)
    assert str(refused) == "Not this one."
    assert [server.log[first], server.log[last]] == [("a", 0), ("a", 2)]
    assert sequences(server) == [1, 2, 3, 4]


@pytest.mark.parametrize("name, error", [("StoreFull", StoreFull), ("DeadlineExceeded", DeadlineExceeded)])
def test_an_error_that_is_about_no_single_message_goes_to_all_callers_at_once(server, client, name, error):
    server.on["append"] = lambda request: request.error(name)

    outcomes = [outcome(task) for task in [spawned(client.publish, "a", at) for at in range(3)]]

    assert [type(one) for one in outcomes] == [error] * 3
    assert len({id(one) for one in outcomes}) == 3      # a traceback belongs to one greenlet
    assert len(server.named("append")) == 1


@pytest.mark.parametrize("answer", [None, 7, [], [1, 2], ["x"], {}])
def test_an_answer_that_makes_no_sense_is_an_error_and_no_offset(server, client, answer):
    server.on["append"] = lambda request: request.ok(answer)

    with pytest.raises(InternalError):
        client.publish("a", 1)


def test_a_publish_that_was_sent_and_has_no_answer_says_that_it_may_be_stored(server, client):
    server.on["append"] = hold

    with pytest.raises(RequestTimeout, match="may or may not"):
        client.publish("a", 1, timeout_s=0.05)

    server.restart()
    client.about()
    turn()
    assert len(server.named("append")) == 1     # it was forgotten, not sent again


def test_a_publish_that_timed_out_unsent_is_never_run(server, client):
    server.stop()
    server.wait(lambda: not client.is_connected)
    with pytest.raises(RequestTimeout, match="not sent"):
        client.publish("a", "too late", timeout_s=0.05)
    waiting = spawned(client.publish, "a", "in time")
    turn()

    server.start()

    assert outcome(waiting) == 0
    assert server.log == [("a", "in time")]


def test_a_publish_that_timed_out_behind_a_full_pipeline_is_never_run(server, client):
    server.on["append"] = hold
    tasks = []
    for at in range(PIPELINE):
        tasks.append(spawned(client.publish, "a", at))
        server.wait_for("append", at + 1)

    with pytest.raises(RequestTimeout, match="not sent"):
        client.publish("a", "too late", timeout_s=0.05)
    server.on.clear()
    for request in server.named("append"):
        server.do_append(request)

    gevent.joinall(tasks)
    client.publish("a", "end")
    assert ("a", "too late") not in server.log


def test_requests_that_timed_out_make_room_in_the_pipeline(server, client):
    server.on["append"] = hold
    tasks = []
    for at in range(PIPELINE):
        tasks.append(spawned(client.publish, "a", at, timeout_s=0.2))
        server.wait_for("append", at + 1)
    assert all(isinstance(outcome(task), RequestTimeout) for task in tasks)

    server.on.clear()

    assert client.publish("a", "next") == 0


def test_a_late_answer_to_a_publish_that_timed_out_is_ignored(server, client):
    server.on["append"] = hold
    with pytest.raises(RequestTimeout):
        client.publish("a", 1, timeout_s=0.05)
    server.wait_for("append").ok([77])
    server.on.clear()

    assert client.publish("a", 2) == 0


def test_a_killed_publisher_that_was_not_sent_leaves_nothing_behind(server, client):
    server.stop()
    server.wait(lambda: not client.is_connected)
    task = spawned(client.publish, "a", "killed")
    turn()

    task.kill()
    server.start()
    client.publish("a", "alive")

    assert server.log == [("a", "alive")]
    assert not len(client._channels.deadlines)


def test_nothing_is_sent_before_the_limits_are_known(server):
    server.on["about"] = hold
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        waiting = spawned(client.publish, "a", 1)
        about = server.wait_for("about")
        turn()
        assert not server.named("append")

        server.do_about(about)

        assert outcome(waiting) == 0


def test_a_server_that_cannot_tell_its_limits_is_used_with_the_usual_ones(server):
    server.on["about"] = lambda request: request.error("UnknownMethod")
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        assert client.publish("a", 1) == 0


def test_a_deadline_goes_along_where_the_server_tells_its_time(server):
    server.limits = {"clock": 1_000_000.0}
    with Client(server.endpoint, timeout_s=DEADLINE_S) as client:
        client.publish("a", 1)

    deadline = server.named("append")[0].args[1]["deadline_clock"]
    assert 1_000_000.0 + DEADLINE_S / 2 < deadline < 1_000_000.0 + 2 * DEADLINE_S


def test_closing_the_client_ends_every_publish_that_waits(server, client):
    server.on["append"] = hold
    tasks = []
    for at in range(PIPELINE + 3):
        tasks.append(spawned(client.publish, "a", at))
        turn()

    client.close()

    assert all(type(outcome(task)) is ConnectionLost for task in tasks)


# --- producer ------------------------------------------------------------------------------


def test_a_producer_gathers_messages_and_its_futures_give_their_offsets(server, client):
    with client.producer(linger_s=5) as producer:
        futures = [producer.publish("a", at) for at in range(100)]
        assert not futures[0].done()
        many = producer.publish_many("a", [1, 2])

    assert [future.get() for future in futures] == list(range(100))
    assert many.result() == (100, 102)
    assert len(server.named("append")) == 1


def test_without_linger_what_is_published_in_one_turn_leaves_together_and_at_once(server, client):
    client.about()
    with client.producer(linger_s=0) as producer:
        futures = [producer.publish("a", at) for at in range(100)]

        assert [future.get(timeout=DEADLINE_S) for future in futures] == list(range(100))
    assert len(server.named("append")) == 1


@pytest.mark.parametrize("linger_s", [-0.001, float("nan"), None, "", False, "0.002"])
def test_a_linger_that_is_no_time_is_refused(client, linger_s):
    with pytest.raises(InvalidOption, match="linger_s is a number of seconds of at least 0"):
        client.producer(linger_s=linger_s)


def test_what_lingers_is_sent_without_further_calls(server, client):
    producer = client.producer(linger_s=0.001)

    future = producer.publish("a", 1)

    assert future.get(timeout=DEADLINE_S) == 0
    producer.close()


def test_a_producer_with_too_much_pending_makes_its_caller_wait(server, client):
    server.on["append"] = hold
    producer = client.producer(linger_s=0.001, max_pending_bytes=1000)
    producer.publish("a", b"x" * 900)
    waiting = spawned(producer.publish, "a", b"y" * 900)
    request = server.wait_for("append")
    turn()
    assert not waiting.ready()
    server.on.clear()

    server.do_append(request)

    assert outcome(waiting).get(timeout=DEADLINE_S) == 1


def test_a_message_larger_than_what_may_be_pending_goes_alone(server, client):
    with client.producer(max_pending_bytes=10) as producer:
        assert producer.publish("a", b"x" * 900).get() == 0


def test_a_producer_that_waits_for_room_in_vain_says_so(server, client):
    server.on["append"] = hold
    producer = client.producer(linger_s=0.001, max_pending_bytes=1000)
    producer.publish("a", b"x" * 900)
    server.wait_for("append")
    producer._timeout_s = 0.05      # shorter than that of the first message, which would make room

    with pytest.raises(RequestTimeout, match="no room"):
        producer.publish("a", b"y" * 900)


def test_flush_raises_the_error_of_a_future_that_nobody_asked(server, client):
    server.on["append"] = refuse("poison")
    producer = client.producer()
    asked, unasked = producer.publish("a", "poison"), producer.publish("a", "poison")
    with pytest.raises(LimitExceeded):
        asked.get()

    with pytest.raises(LimitExceeded):
        producer.flush()
    producer.flush()    # told once
    producer.close()

    assert isinstance(unasked.exception, LimitExceeded)


def test_an_error_that_somebody_asked_for_is_not_raised_again(server, client):
    server.on["append"] = refuse("poison")

    with client.producer() as producer:
        with pytest.raises(LimitExceeded):
            producer.publish("a", "poison").get()


def test_flush_does_not_wait_for_ever(server, client):
    server.on["append"] = hold
    producer = client.producer()
    producer.publish("a", 1)

    with pytest.raises(RequestTimeout):
        producer.flush(timeout_s=0.05)


def test_a_failing_block_is_not_hidden_by_the_producers_own_error(server, client):
    server.on["append"] = refuse("poison")

    with pytest.raises(KeyError):
        with client.producer() as producer:
            producer.publish("a", "poison")
            raise KeyError


def test_a_closed_producer_takes_nothing_more(client):
    producer = client.producer()
    producer.close()
    producer.close()

    with pytest.raises(RequestError):
        producer.publish("a", 1)


def test_a_producer_refuses_a_wrong_message_at_the_call(server, client):
    with client.producer() as producer:
        with pytest.raises(InvalidTopic):
            producer.publish("a b", 1)
        with pytest.raises(InvalidPayload):
            producer.publish("a", object())

    assert not server.named("append")


def test_closing_the_client_settles_the_futures_of_its_producers(server, client):
    server.on["append"] = hold
    producer = client.producer(linger_s=0.001)
    sent = producer.publish("a", 1)
    server.wait_for("append")

    client.close()
    unsent = producer.publish("a", 2)

    for future in (sent, unsent):
        with pytest.raises(ConnectionLost):
            future.get(timeout=DEADLINE_S)
