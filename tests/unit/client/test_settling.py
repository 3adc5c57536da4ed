"""What is said of deliveries reaches the server in few requests, and each future hears of its own."""

import gevent
import pytest

from tests.unit.client.fake_server import DEADLINE_S, outcome, sealed, spawned, turn
from tests.unit.client.members import hold, joined, said, take
from zstreampub.client.acks import MOST_CALLS
from zstreampub.errors import InvalidOption, RequestError, StaleDelivery

# --- saying what became of a message --------------------------------------------------------------


def test_acks_are_gathered_into_ranges_and_answered_one_by_one(server, client):
    consumption, stream = joined(server, client, sealed(0, 0, 1, 2), sealed(5, 5, 6))
    stream.hand_out(2, sealed(7, 7), delivery=2)

    futures = [delivery.ack() for delivery in take(consumption, 6)]
    for future in futures:
        assert future.get(timeout=DEADLINE_S) is None

    assert said(server) == [[[[0, 3, 1], [5, 7, 1], [7, 8, 2]], {}]]


def test_an_ack_goes_out_at_once_when_nothing_is_under_way(server, client):
    consumption, _ = joined(server, client, sealed(0, 0, 1))

    for delivery in take(consumption, 2):
        delivery.ack().get(timeout=DEADLINE_S)

    assert said(server) == [[[[0, 1, 1]], {}], [[[1, 2, 1]], {}]]


def test_members_of_one_consumer_share_their_requests(server, client):
    first, _ = joined(server, client, sealed(0, 0))
    second = client.consume("a", "c")
    server.wait_for("subscribe", 2).hand_out(2, sealed(1, 1))
    deliveries = take(first, 1) + take(second, 1)

    for future in [delivery.ack() for delivery in deliveries]:
        future.get(timeout=DEADLINE_S)

    assert said(server) == [[[[0, 1, 1], [1, 2, 2]], {}]]


def test_a_member_that_joins_again_claims_nothing_that_another_has_settled(server, client):
    server.on["ack"] = hold
    first, _ = joined(server, client, sealed(0, 0))
    second = client.consume("a", "c")
    server.wait_for("subscribe", 2).hand_out(2, sealed(1, 1))
    for delivery in take(first, 1) + take(second, 1):
        delivery.ack()
    server.wait_for("ack")

    server.restart()
    server.wait_for("subscribe", 4)

    held = [request.options["held"] for request in server.named("subscribe")[2:]]
    assert sorted(held) == [[[0, 1]], [[1, 2]]]


def test_a_bounded_number_of_requests_is_under_way_and_the_rest_goes_together(server, client):
    server.on["ack"] = hold
    consumption, _ = joined(server, client, sealed(0, *range(20)))
    futures = []
    for delivery in take(consumption, 20):
        futures.append(delivery.ack())
        turn()
    server.wait_for("ack", MOST_CALLS)
    assert len(server.named("ack")) == MOST_CALLS
    server.on.clear()

    for request in server.named("ack"):
        request.ok(1)
    for future in futures:
        future.get(timeout=DEADLINE_S)

    assert said(server)[-1] == [[[MOST_CALLS, 20, 1]], {}]
    assert len(server.named("ack")) == MOST_CALLS + 1


def test_what_is_said_reaches_the_server_with_its_options(server, client):
    consumption, _ = joined(server, client, sealed(0, *range(6)))
    deliveries = take(consumption, 6)

    futures = [deliveries[0].nack(), deliveries[1].nack(2, "busy"), deliveries[2].nack(delay_s=2, reason="busy"),
               deliveries[3].reject("broken"), deliveries[4].extend(60), deliveries[5].reject()]
    for future in futures:
        future.get(timeout=DEADLINE_S)

    assert said(server, "nack") == [[[[0, 1, 1]], {}], [[[1, 3, 1]], {"delay_s": 2, "reason": "busy"}]]
    assert said(server, "reject") == [[[[3, 4, 1]], {"reason": "broken"}], [[[5, 6, 1]], {}]]
    assert said(server, "extend") == [[[[4, 5, 1]], 60]]


def test_an_extension_never_goes_behind_the_ack_of_its_message(server, client):
    server.on["ack"] = hold
    consumption, _ = joined(server, client, sealed(0, *range(MOST_CALLS + 2)))
    deliveries = take(consumption, MOST_CALLS + 2)
    for delivery in deliveries[:MOST_CALLS]:
        delivery.ack()
        turn()
    deliveries[-1].ack()
    deliveries[-2].extend(60)
    deliveries[-2].ack()
    server.on.clear()

    for request in server.named("ack"):
        request.ok(1)
    deliveries[-2].ack().get(timeout=DEADLINE_S)

    assert [request.name for request in server.requests][-2:] == ["extend", "ack"]


def test_the_first_word_about_a_message_counts(server, client):
    consumption, _ = joined(server, client, sealed(0, 0))
    [delivery] = take(consumption, 1)
    assert not delivery.is_settled

    future = delivery.ack()

    assert delivery.is_settled
    assert delivery.nack() is future and delivery.reject() is future and delivery.ack() is future
    future.get(timeout=DEADLINE_S)
    assert not server.named("nack") and not server.named("reject")


@pytest.mark.parametrize("options", [{"delay_s": "soon"}, {"delay_s": -1}, {"reason": 7}, {"delay_s": True},
                                     {"delay_s": float("nan")}])
def test_what_cannot_be_said_raises_at_the_call_and_the_message_can_still_be_acknowledged(server, client, options):
    consumption, _ = joined(server, client, sealed(0, 0))
    [delivery] = take(consumption, 1)

    with pytest.raises(InvalidOption):
        delivery.nack(**options)

    delivery.ack().get(timeout=DEADLINE_S)


def test_a_reason_may_hold_what_is_no_text(server, client):
    consumption, _ = joined(server, client, sealed(0, 0))

    take(consumption, 1)[0].reject("\udcff" * 5000).get(timeout=DEADLINE_S)

    assert said(server, "reject")[0][1]["reason"].startswith("\\udcff")


def refuse(*stale):
    """Answer acks as a server to which these offsets are stale."""
    def answer(request):
        if any(first <= offset < next for first, next, _ in request.args[1] for offset in stale):
            request.error("StaleDelivery", "Delivered again.")
        else:
            request.ok(1)
    return answer


def test_a_stale_delivery_reaches_exactly_those_that_are_stale(server, client):
    server.on["ack"] = refuse(3, 17, 18)
    consumption, _ = joined(server, client, sealed(0, *range(20)))

    futures = {delivery.offset: delivery.ack() for delivery in take(consumption, 20)}
    gevent.joinall(list(futures.values()), timeout=DEADLINE_S)

    assert [offset for offset, future in futures.items() if isinstance(future.exception, StaleDelivery)] == [3, 17, 18]
    assert [offset for offset, future in futures.items() if future.successful()] == [
        offset for offset in range(20) if offset not in (3, 17, 18)]


def test_any_other_error_reaches_all_that_shared_the_request(server, client):
    server.on["ack"] = lambda request: request.error("UnknownConsumer", "Deleted.")
    consumption, _ = joined(server, client, sealed(0, 0, 1))

    futures = [delivery.ack() for delivery in take(consumption, 2)]

    assert [type(outcome(spawned(future.get))).__name__ for future in futures] == ["UnknownConsumer"] * 2


def test_an_error_that_nobody_waits_for_is_logged_once_of_its_kind(server, client, caplog):
    server.on["ack"] = server.on["nack"] = lambda request: request.error("UnknownConsumer", "Deleted.")
    consumption, _ = joined(server, client, sealed(0, *range(6)))
    deliveries = take(consumption, 6)

    for delivery in deliveries[:3]:
        gevent.joinall([delivery.ack()], timeout=DEADLINE_S)
    gevent.joinall([deliveries[3].nack()], timeout=DEADLINE_S)
    asked = deliveries[4].ack()
    with pytest.raises(RequestError):
        asked.get(timeout=DEADLINE_S)

    assert [record.message.split(" of ")[0] for record in caplog.records] == ["ack", "nack"]


def test_a_delivery_of_another_thread_is_refused(server, client):
    consumption, _ = joined(server, client, sealed(0, 0))
    [delivery] = take(consumption, 1)

    with pytest.raises(RequestError, match="thread"):
        gevent.get_hub().threadpool.apply(delivery.ack)

    delivery.ack().get(timeout=DEADLINE_S)


# --- fetching -------------------------------------------------------------------------------------


def test_fetched_messages_are_settled_like_others(server, client):
    server.on["fetch"] = lambda request: request.ok([
        {"topic": "a", "offset": 7 + at, "time": 1.5, "payload": at, "delivery": 2, "token": 99} for at in range(2)])

    first, second = client.fetch("c", 2, timeout_s=1)
    first.ack().get(timeout=DEADLINE_S)
    second.reject("no").get(timeout=DEADLINE_S)

    assert server.named("fetch")[0].args == ["c", {"count": 2, "timeout_s": 1}]
    assert (first.payload, second.payload, first.delivery, first.token) == (0, 1, 2, 99)
    assert said(server) == [[[[7, 8, 99]], {}]]
    assert said(server, "reject") == [[[[8, 9, 99]], {"reason": "no"}]]


# --- the calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, call, args", [
    ("ack", lambda client: client.ack("c", 7), ["c", 7, {}]),
    ("ack", lambda client: client.ack("c", [7, (8, 1), (9, 12, 1)]), ["c", [7, [8, 1], [9, 12, 1]], {}]),
    ("ack", lambda client: client.ack("c", before=9), ["c", [], {"before": 9}]),
    ("nack", lambda client: client.nack("c", 7, delay_s=1.5, reason="x"), ["c", 7, {"delay_s": 1.5, "reason": "x"}]),
    ("reject", lambda client: client.reject("c", [7]), ["c", [7], {}]),
    ("extend", lambda client: client.extend("c", [7], 60), ["c", [7], 60]),
    ("consumers", lambda client: client.consumers(), []),
    ("consumer", lambda client: client.consumer("c"), ["c"]),
    ("create_consumer", lambda client: client.create_consumer("c", ["a"], max_dead=5), ["c", ["a"], {"max_dead": 5}]),
    ("update_consumer", lambda client: client.update_consumer("c", max_dead=5), ["c", {"max_dead": 5}]),
    ("delete_consumer", lambda client: client.delete_consumer("c"), ["c"]),
    ("seek", lambda client: client.seek("c", {"last": 5}), ["c", {"last": 5}]),
    ("pause", lambda client: client.pause("c"), ["c"]),
    ("resume", lambda client: client.resume("c"), ["c"]),
    ("dead", lambda client: client.dead("c", first=5), ["c", {"first": 5, "limit": 100}]),
    ("redrive", lambda client: client.redrive("c", offsets=range(2), topic="b"), ["c", {"offsets": [0, 1],
                                                                                        "topic": "b"}]),
    ("purge", lambda client: client.purge("c"), ["c", {}]),
    ("clear_acked", lambda client: client.clear_acked("c", keep_latest=5), ["c", {"keep_latest": 5,
                                                                                  "max_delete": 1000}]),
    ("replace", lambda client: client.replace("c", 7, {"new": 1}), ["c", 7, {"new": 1}]),
    ("peek", lambda client: client.peek("c"), ["c"]),
    ("browse", lambda client: client.browse("c", limit=5), ["c", {"limit": 5}]),
])
def test_the_calls_about_consumers_are_the_servers(server, client, name, call, args):
    server.on[name] = lambda request: request.ok("done")

    assert call(client) == "done"
    assert server.named(name)[0].args == args
