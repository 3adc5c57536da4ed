"""The outbox: on disk here first, then at the server, each message once and in order, whatever happens in between."""

import gevent
import pytest

from tests.unit.client.fake_server import DEADLINE_S, append_of, outcome, spawned, turn
from zstreampub import FifoStore
from zstreampub.client import Client
from zstreampub.client.outbox import left, outbox, records, sender
from zstreampub.errors import (
    BatchTooLarge,
    ConnectionLost,
    InvalidOption,
    InvalidPayload,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    RequestError,
    RequestTimeout,
    SequenceTooOld,
    SpoolFull,
    StoreLocked,
    StoreVersion,
)
from zstreampub.message import Batch


@pytest.fixture
def place(tmp_path):
    return tmp_path / "outbox"


@pytest.fixture
def open_client(server, place):
    """Open clients of *server* with the outbox at *place*; they are closed at the end."""
    clients = []

    def open_one(**options):
        clients.append(Client(server.endpoint, **{"timeout_s": DEADLINE_S, "outbox": place, **options}))
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()


@pytest.fixture
def client(open_client):
    client = open_client()
    client.about()
    return client


def requests(server):
    """Return ``(producer, sequence, payloads)`` of each append."""
    return [(request.args[1]["producer"], request.args[1]["sequence"],
             [payload for _, payloads in append_of(request) for payload in payloads])
            for request in server.named("append")]


def hold(request):
    """Leave a request without an answer."""


def store_and_hold(request):
    """Store what the request brings; the answer is lost."""
    request.ok = lambda value: None
    request.server.do_append(request)


def answer_with(name):
    return lambda request: request.error(name, "Not this one.")


def refuse(poison, name="LimitExceeded"):
    """Return an answer to ``append`` that refuses what has the payload *poison* and stores the rest."""
    def answer(request):
        if any(poison in payloads for _, payloads in append_of(request)):
            request.error(name, "Not this one.")
        else:
            request.server.do_append(request)
    return answer


def test_publish_returns_a_future_that_gives_the_offset(server, client):
    one = client.publish("a", "x", headers={"h": 1}, key="k", id=b"i")
    more = client.publish_many("a", iter([1, 2]))

    assert one.get(timeout=DEADLINE_S) == 0 and more.result(timeout=DEADLINE_S) == (1, 3)
    assert server.log == [("a", "x"), ("a", 1), ("a", 2)]
    batch = Batch.parse(server.named("append")[0].args[0][0])
    assert batch.metadata == {"key": ["k"], "id": [b"i"], "headers": [{"h": 1}]}


def test_while_the_server_is_away_all_is_kept_and_then_goes_in_order(server, client):
    server.stop()

    futures = [client.publish("a", number) for number in range(5)]
    assert client.outbox.messages == 5 and client.outbox.size_bytes > 0 and client.outbox.age_s >= 0
    assert not client.outbox.is_sending
    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)

    assert [future.get(block=False) for future in futures] == list(range(5))
    assert [payload for _, payload in server.log] == list(range(5))
    assert (client.outbox.messages, client.outbox.size_bytes, client.outbox.age_s) == (0, 0, 0.0)


def test_what_was_not_sent_is_sent_by_whoever_opens_the_outbox_next(server, open_client):
    server.on["append"] = hold
    first = open_client()
    future = first.publish("a", 1)
    first.publish_many("b", [2, 3])
    first.close()
    with pytest.raises(ConnectionLost, match="kept"):
        future.get()

    del server.on["append"]
    second = open_client()
    assert second.outbox.messages == 3
    second.outbox.wait_until_sent(DEADLINE_S)

    assert server.log == [("a", 1), ("b", 2), ("b", 3)]


def test_a_request_without_an_answer_is_the_same_request_after_a_restart(server, open_client):
    server.on["append"] = store_and_hold
    first = open_client()
    first.publish_many("a", [1, 2])
    server.wait_for("append")
    first.publish("a", 3)
    first.close()

    del server.on["append"]
    open_client().outbox.wait_until_sent(DEADLINE_S)

    before, again, after = requests(server)
    assert again == before and after[:2] == (before[0], before[1] + 1)
    assert server.log == [("a", 1), ("a", 2), ("a", 3)]


def test_a_request_without_an_answer_is_the_same_request_on_the_next_connection(server, client):
    server.on["append"] = store_and_hold
    future = client.publish("a", 1)
    server.wait_for("append")

    del server.on["append"]
    server.restart()

    assert future.get(timeout=DEADLINE_S) == 0 and server.log == [("a", 1)]


def test_an_outbox_with_nothing_under_way_begins_under_a_new_name(server, open_client, place):
    for _ in range(2):      # a copy of it may do the same on another machine
        with open_client() as client:
            client.publish("a", 1).get(timeout=DEADLINE_S)
            client.outbox.wait_until_sent(DEADLINE_S)

    (first, *_), (second, *_) = requests(server)
    assert first != second and len(server.log) == 2


def test_one_request_is_under_way_at_a_time_and_what_gathers_meanwhile_goes_together(server, client):
    server.on["append"] = hold
    client.publish("a", 0)
    held = server.wait_for("append")
    for number in range(1, 100):
        client.publish("a", number)
    assert len(server.named("append")) == 1

    del server.on["append"]
    server.do_append(held)
    client.outbox.wait_until_sent(DEADLINE_S)

    assert [payloads for *_, payloads in requests(server)] == [[0], list(range(1, 100))]


def test_a_request_has_no_more_than_the_frame_that_the_server_takes(server, client):
    server.limits = {"max_batch_bytes": 2_000}
    server.restart()
    server.on["append"] = hold
    client.publish("a", 0)
    held = server.wait_for("append")
    for _ in range(10):
        client.publish("a", bytes(500))

    del server.on["append"]
    server.do_append(held)
    client.outbox.wait_until_sent(DEADLINE_S)

    assert len(server.log) == 11
    assert all(sum(map(len, request.args[0])) < 2_000 for request in server.named("append"))


def test_messages_with_ids_do_not_share_a_batch(server, client):
    server.on["append"] = hold
    client.publish("a", 0)
    held = server.wait_for("append")
    futures = [client.publish("a", 1), client.publish("a", 2, id="x"), client.publish("a", 3, id="y"),
               client.publish("a", 4), client.publish("a", 5)]

    del server.on["append"]
    server.do_append(held)

    assert [future.get(timeout=DEADLINE_S) for future in futures] == [1, 2, 3, 4, 5]
    assert append_of(server.named("append")[1]) == [("a", [1]), ("a", [2]), ("a", [3]), ("a", [4, 5])]


def test_what_comes_later_than_the_first_item_is_read_from_disk_as_well(server, client, monkeypatch):
    monkeypatch.setattr("zstreampub.spool.contents.FRONT_BYTES", 1_000)
    server.stop()
    for number in range(50):
        client.publish("a", [number, bytes(200)])

    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)

    assert [number for _, (number, _) in server.log] == list(range(50))


# --- what is refused ---------------------------------------------------------------------------------


def test_what_is_wrong_is_said_at_once(client):
    for error, wrong in ((InvalidTopic, lambda: client.publish("a..b", 1)),
                         (InvalidPayload, lambda: client.publish("a", object())),
                         (MessageTooLarge, lambda: client.publish("a", bytes(2 << 20)))):
        with pytest.raises(error):
            wrong()

    assert client.outbox.messages == 0


@pytest.mark.parametrize("terms", [{"delay_s": 5}, {"at": 2e9}, {"wait": "acked"}, {"expected_next": 0}])
def test_terms_that_need_an_answer_are_refused(client, terms):
    with pytest.raises(InvalidOption, match="without an outbox"):
        client.publish("a", 1, **terms)
    with pytest.raises(InvalidOption, match="without an outbox"):
        client.publish_many("a", [1], **terms)


def test_a_queue_and_a_table_are_refused(client):
    for wrong in (client.queue, lambda: client.table("a")):
        with pytest.raises(InvalidOption, match="without an outbox"):
            wrong()


@pytest.mark.parametrize("name", ["LimitExceeded", "AccessError", "MessageTooLarge", "DuplicateId"])
def test_what_the_server_refuses_is_set_aside_and_the_rest_goes_on_in_order(server, client, open_client, name):
    server.stop()
    futures = [client.publish("a", number, key="k") for number in range(9)]
    server.on["append"] = refuse(4, name)
    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)

    assert [payload for _, payload in server.log] == [0, 1, 2, 3, 5, 6, 7, 8]
    with pytest.raises(Exception, match="Not this one") as caught:
        futures[4].get()
    assert type(caught.value).__name__ == name and futures[5].get() == 4
    client.close()

    with open_client() as again:
        [refused] = again.outbox.refused()
        assert refused.topic == "a" and type(refused.error).__name__ == name and refused.time > 1e9
        assert [(message.payload, message.key) for message in refused.messages] == [(4, "k")]
        assert again.outbox.refused_count == again.outbox.clear_refused() == 1
        assert again.outbox.messages == again.outbox.refused_count == 0


def test_what_the_server_is_known_not_to_take_is_not_even_sent(server, open_client):
    server.stop()
    client = open_client()
    futures = [client.publish("a", bytes(size)) for size in (10, 5_000, 10)]
    server.limits = {"max_message_bytes": 1_000}
    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)

    assert futures[0].get() == 0 and futures[2].get() == 1
    with pytest.raises(MessageTooLarge):
        futures[1].get()
    assert all(len(payload) == 10 for *_, payloads in requests(server) for payload in payloads)


def test_before_the_server_was_reached_nothing_is_refused_by_a_guess_of_what_it_takes(server, open_client):
    server.stop()
    server.limits = {"max_message_bytes": 4 << 20}
    client = open_client()

    future = client.publish("a", bytes(2 << 20))
    server.start()

    assert future.get(timeout=DEADLINE_S) == 0


def test_what_is_refused_again_after_a_crash_is_set_aside_once(server, client, open_client):
    server.on["append"] = answer_with("LimitExceeded")
    keep = client.outbox._sender._keep_refused

    def keep_and_die(*args):
        keep(*args)
        raise ConnectionLost("as if the process had died here")

    client.outbox._sender._keep_refused = keep_and_die
    future = client.publish("a", 1)
    server.wait(lambda: client.outbox.refused_count)
    client.close()

    with open_client() as again:
        again.outbox.wait_until_sent(DEADLINE_S)
        assert again.outbox.refused_count == 1 and again.outbox.messages == 0
    assert isinstance(future.exception, ConnectionLost)


@pytest.mark.parametrize("name", ["StoreFull", "StoreError", "InternalError", "UnknownMethod"])
def test_what_is_no_fault_of_the_message_is_tried_again_under_the_same_name(server, client, name):
    server.on["append"] = answer_with(name)
    future = client.publish("a", 1)
    server.wait_for("append", 2)
    assert type(client.outbox.last_error).__name__ == name and client.outbox.messages == 1

    del server.on["append"]

    assert future.get(timeout=DEADLINE_S) == 0 and client.outbox.last_error is None
    assert len(set(map(repr, requests(server)))) == 1


def test_of_what_nobody_can_tell_whether_it_was_stored_nothing_is_sent_again(server, client, caplog):
    server.on["append"] = hold
    client.publish("a", 0)
    held = server.wait_for("append")
    futures = [client.publish("a", number) for number in (1, 2)]
    server.on["append"] = answer_with("SequenceTooOld")
    server.do_append(held)
    client.outbox.wait_until_sent(DEADLINE_S)

    assert all(isinstance(future.exception, SequenceTooOld) for future in futures)
    assert [refused.messages[0].payload for refused in client.outbox.refused()] == [1, 2]
    assert len(server.named("append")) == 2


def test_a_request_that_does_not_fit_a_server_with_other_limits_is_made_anew_in_parts(server, client):
    server.on["append"] = hold
    client.publish("a", 0)
    held = server.wait_for("append")
    for number in range(20):
        client.publish("a", [number, bytes(100)])
    server.do_append(held)
    whole = server.wait_for("append", 2)

    del server.on["append"]
    server.limits = {"max_batch_bytes": 1_000}
    client.close()
    server.restart()
    with Client(server.endpoint, outbox=client.outbox.path) as again:
        again.outbox.wait_until_sent(DEADLINE_S)

    assert [payload[0] for _, payload in server.log[1:]] == list(range(20))
    parts = server.named("append")[2:]
    assert all(sum(map(len, part.args[0])) < 1_000 for part in parts) and len(append_of(whole)[0][1]) == 20


def test_an_answer_that_is_none_is_tried_again(server, client):
    server.on["append"] = lambda request: request.ok("what?")
    future = client.publish("a", 1)
    server.wait_for("append", 2)

    del server.on["append"]

    assert future.get(timeout=DEADLINE_S) == 0


def test_what_was_stored_in_other_batches_before_is_stored(server, client):
    server.on["append"] = lambda request: request.ok([1, 2, 3])

    assert client.publish("a", 1).get(timeout=DEADLINE_S) is None
    client.outbox.wait_until_sent(DEADLINE_S)


# --- bounds ------------------------------------------------------------------------------------------


def test_it_takes_so_many_messages_and_no_more(server, open_client):
    server.stop()
    client = open_client(outbox_max_messages=4)
    client.publish("a", 1)
    client.publish_many("a", [2, 3, 4])

    with pytest.raises(SpoolFull, match="outbox_max_messages"):
        client.publish("a", 5)
    with pytest.raises(BatchTooLarge, match="in parts"):
        client.publish_many("a", range(5))
    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)
    client.publish("a", 6).get(timeout=DEADLINE_S)

    assert [payload for _, payload in server.log] == [1, 2, 3, 4, 6]


def test_it_takes_so_many_bytes_and_no_more(server, open_client):
    server.stop()
    client = open_client(outbox_max_bytes=2_000)
    client.publish("a", bytes(100))
    each = client.outbox.size_bytes
    for _ in range(2_000 // each - 1):
        client.publish("a", bytes(100))

    with pytest.raises(SpoolFull):
        client.publish("a", bytes(100))
    with pytest.raises(BatchTooLarge):
        client.publish("a", bytes(2_000))

    assert client.outbox.messages == 2_000 // each


def test_with_block_who_publishes_waits_for_room(server, open_client):
    server.stop()
    client = open_client(outbox_max_messages=2, outbox_when_full="block")
    client.publish_many("a", [1, 2])
    with pytest.raises(SpoolFull, match="within"):
        client.publish("a", "too late", timeout_s=0.01)
    task = spawned(client.publish, "a", 3)
    killed = spawned(client.publish, "a", "killed")
    turn()
    killed.kill()
    assert not task.ready()

    server.start()

    assert outcome(task).get(timeout=DEADLINE_S) == 2
    assert [payload for _, payload in server.log] == [1, 2, 3]


def test_who_gives_up_waiting_for_room_holds_up_nobody_behind_it(server, open_client):
    server.stop()
    client = open_client(outbox_max_messages=2, outbox_when_full="block")
    client.publish("a", 1)
    large = spawned(client.publish_many, "a", [2, 3])
    small = spawned(client.publish, "a", 4)
    turn()
    assert not small.ready()

    large.kill()
    outcome(small)

    assert client.outbox.messages == 2


def test_who_waits_for_room_is_told_when_the_client_is_closed(server, open_client):
    server.stop()
    client = open_client(outbox_max_messages=1, outbox_when_full="block")
    client.publish("a", 1)
    task = spawned(client.publish, "a", 2)
    turn()

    client.close()

    assert isinstance(outcome(task), SpoolFull)


@pytest.mark.parametrize("options", [{"outbox_max_messages": 0}, {"outbox_max_bytes": 5}, {"outbox_when_full": "drop"}])
def test_wrong_bounds_are_refused(open_client, options):
    with pytest.raises(InvalidOption, match="outbox_"):
        open_client(**options)


# --- the futures -------------------------------------------------------------------------------------


def test_futures_that_nobody_holds_are_not_kept(server, client):
    server.stop()
    held = client.publish("a", 1)
    for _ in range(10):
        client.publish("a", 2)
    turn()

    assert len(client.outbox._sending) == 1
    server.start()
    assert held.get(timeout=DEADLINE_S) == 0


def test_a_future_that_somebody_is_told_of_is_kept(server, client):
    server.stop()
    told: list = []
    client.publish("a", 1).rawlink(lambda future: told.append(future.value))
    turn()

    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)
    turn()

    assert told == [0] and not client.outbox._linked


# --- a producer --------------------------------------------------------------------------------------


def test_a_producer_waits_for_the_disk_here_only(server, client):
    server.stop()

    with client.producer() as producer:
        futures = [producer.publish("a", number, key="k") for number in range(500)]
        futures.append(producer.publish_many("a", [500, 501]))
    assert client.outbox.messages == 502 and not futures[0].ready()
    server.start()

    assert [future.get(timeout=DEADLINE_S) for future in futures] == [*range(500), (500, 502)]


def test_a_producer_says_that_the_outbox_is_full(server, open_client):
    server.stop()
    client = open_client(outbox_max_messages=3)
    producer = client.producer()
    futures = [producer.publish("a", number) for number in range(5)]

    with pytest.raises(SpoolFull):
        producer.flush()

    assert client.outbox.messages == 3
    assert [isinstance(future.exception, SpoolFull) for future in futures] == [False, False, False, True, True]


# --- time --------------------------------------------------------------------------------------------


def test_a_time_to_live_counts_from_when_it_was_published(server, open_client, monkeypatch):
    server.stop()
    client = open_client()
    client.publish("a", 1, ttl_s=100)
    client.publish_many("a", [2, 3], ttl_s=30)
    now = records.time()
    for module in (records, left):
        monkeypatch.setattr(module, "time", lambda: now + 60)

    assert 55 < client.outbox.age_s < 65
    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)

    [[first, *others]] = [Batch.parse(packed).expires for packed in server.named("append")[0].args[0]]
    ttls_s = [us / 1e6 - now for us in (first, *others)]
    assert 30 < ttls_s[0] < 45 and all(-35 < one < -20 for one in ttls_s[1:])


def test_waiting_ends_after_its_time(server, client):
    server.on["append"] = answer_with("StoreFull")
    client.publish("a", 1)
    server.wait(lambda: client.outbox.last_error)

    with pytest.raises(RequestTimeout, match=r"1 messages are still .*Not this one"):
        client.outbox.wait_until_sent(0.01)

    assert client.outbox.messages == 1


def test_waiting_does_not_count_what_was_refused_here(server, open_client):
    client = open_client(outbox_max_messages=2)
    full = spawned(client.publish_many, "a", [1, 2]), spawned(client.publish, "a", 3)
    task = spawned(client.outbox.wait_until_sent)

    assert outcome(task) is None

    assert isinstance(outcome(full[1]), SpoolFull) and [payload for _, payload in server.log] == [1, 2]


def test_waiting_is_for_the_thread_that_has_made_the_client(client):
    def wait():
        try:
            client.outbox.wait_until_sent(DEADLINE_S)
        except RequestError as error:
            return error

    assert "thread" in str(gevent.get_hub().threadpool.apply(wait))


def test_waiting_ends_when_the_client_is_closed(server, client):
    server.on["append"] = hold
    client.publish("a", 1)
    task = spawned(client.outbox.wait_until_sent)
    turn()

    client.close()

    assert isinstance(outcome(task), ConnectionLost)
    with pytest.raises(ConnectionLost):
        client.publish("a", 2)


# --- the directory -----------------------------------------------------------------------------------


def test_an_outbox_is_open_once(client, open_client):
    with pytest.raises(StoreLocked):
        open_client()

    assert client.publish("a", 1).get(timeout=DEADLINE_S) == 0


def test_another_store_is_no_outbox(open_client, place):
    with FifoStore(place) as store:
        store.add(b"somebody's")

    for _ in range(2):      # it is let go
        with pytest.raises(StoreVersion, match="no outbox"):
            open_client()


def test_an_outbox_whose_refused_ones_cannot_be_opened_is_let_go(server, open_client, place):
    server.on["append"] = answer_with("LimitExceeded")
    with open_client() as client:
        with pytest.raises(LimitExceeded):
            client.publish("a", 1).get(timeout=DEADLINE_S)

    with FifoStore(place / "refused"):
        with pytest.raises(StoreLocked, match="refused"):
            open_client()

    assert open_client().outbox.refused_count == 1


def test_the_bound_of_what_was_refused_is_there_after_a_restart(server, open_client, monkeypatch):
    server.on["append"] = answer_with("LimitExceeded")
    monkeypatch.setattr(outbox, "MAX_MESSAGE_BYTES", 1_000)
    with open_client(outbox_max_bytes=1_024) as client:
        with pytest.raises(LimitExceeded):
            client.publish("a", bytes(900)).get(timeout=DEADLINE_S)

    with open_client(outbox_max_bytes=1_024) as client:
        for _ in range(2):
            client.publish("a", bytes(900))
            server.wait(lambda: client.outbox.messages == 0 or client.outbox.last_error)

        assert isinstance(client.outbox.last_error, SpoolFull) and client.outbox.messages == 1


def test_an_outbox_of_another_format_stays_as_it_is(server, open_client, monkeypatch):
    server.stop()
    with open_client() as client:
        client.publish("a", 1)
    monkeypatch.setattr(records, "FORMAT", 2)
    server.start()

    with open_client() as client:
        server.wait(lambda: client.outbox.last_error)
        assert isinstance(client.outbox.last_error, StoreVersion) and client.outbox.messages == 1


def test_what_cannot_be_read_holds_up_nothing_else(server, open_client, place, caplog):
    server.stop()
    with open_client() as client:
        client.publish("a", 1)
    with FifoStore(place) as store:     # as a damaged disk leaves it
        store.add_many([b""], ("added", 2))
    with open_client() as client:
        client.publish("a", 3)
        server.start()
        client.outbox.wait_until_sent(DEADLINE_S)

        assert client.outbox.messages == 0
    assert [payload for _, payload in server.log] == [1, 3] and "damaged" in caplog.text


def test_a_full_disk_refuses_what_is_new_and_sends_what_is_there(server, client, monkeypatch):
    server.stop()
    client.publish("a", 1)
    with monkeypatch.context() as full:
        full.setattr(client.outbox._store, "add_many", raising(SpoolFull("The disk is full.")))
        with pytest.raises(SpoolFull, match="disk"):
            client.publish("a", 2)
    later = client.publish("a", 3)
    server.start()

    assert later.get(timeout=DEADLINE_S) == 1 and client.outbox.messages == 0
    assert [payload for _, payload in server.log] == [1, 3]


def raising(error):
    def fail(*_, **__):
        raise error
    return fail


def test_what_fails_here_while_sending_is_tried_again(server, client, monkeypatch):
    pops = []

    def fail_once(count, mark, pop=client.outbox._store.pop_many):
        pops.append(count)
        if len(pops) == 1:
            raise SpoolFull("The disk is full.")
        return pop(count, mark)

    monkeypatch.setattr(client.outbox._store, "pop_many", fail_once)
    client.publish("a", 1)
    client.outbox.wait_until_sent(DEADLINE_S)

    assert server.log == [("a", 1)] and pops == [1, 1]
    assert len(set(map(repr, requests(server)))) == 1


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("name", ["add_many", "pop_many"])
def test_ctrl_c_while_a_greenlet_of_ours_writes_is_raised_in_the_program_and_nothing_is_lost_or_doubled(
        name, is_done, server, client, monkeypatch):
    client.publish("a", 0).get(timeout=DEADLINE_S)
    write, interruptions = getattr(client.outbox._store, name), [KeyboardInterrupt]

    def interrupted(*arguments):
        if not interruptions or is_done:
            write(*arguments)
        if interruptions:
            raise interruptions.pop()

    monkeypatch.setattr(client.outbox._store, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.publish("a", 1).get(timeout=DEADLINE_S)
    last = client.publish("a", 2)
    client.outbox.wait_until_sent(DEADLINE_S)

    assert [payload for _, payload in server.log] == [0, 1, 2] and last.get(timeout=0) == 2
    assert (client.outbox.messages, client.outbox.refused_count) == (0, 0)


def test_ctrl_c_while_a_producer_hands_over_loses_nothing_that_it_has_taken(server, client, monkeypatch):
    pack, numbers = outbox.pack_item, []

    def interrupted(entry):
        numbers.append(entry)
        if len(numbers) == 2:
            raise KeyboardInterrupt
        return pack(entry)

    monkeypatch.setattr(outbox, "pack_item", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with client.producer() as producer:
            for number in range(3):
                producer.publish("a", number)
            producer.flush()
    client.outbox.wait_until_sent(DEADLINE_S)

    assert [payload for _, payload in server.log] == [0, 1, 2]


def test_many_greenlets_share_commits_and_requests(server, client):
    server.stop()
    commits = client.outbox._store.state.serial
    tasks = [spawned(client.publish, "a", number) for number in range(200)]
    gevent.joinall(tasks, timeout=DEADLINE_S)

    assert client.outbox._store.state.serial - commits < 20
    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)
    assert [payload for _, payload in server.log] == list(range(200)) and len(server.named("append")) <= 2


def test_the_number_of_tries_does_not_depend_on_how_many_share_a_refused_request(server, client):
    server.stop()
    for number in range(300):
        client.publish("a", number)
    server.on["append"] = refuse(123)
    server.start()
    client.outbox.wait_until_sent(DEADLINE_S)

    assert len(server.log) == 299 and len(server.named("append")) < 30
    assert sender.MOST_PAUSE_S > 1 and isinstance(next(client.outbox.refused()).error, LimitExceeded)
