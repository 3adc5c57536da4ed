"""Publishing on terms: each publish is a request of its own, which is stored once however often it is sent."""

import gevent
import pytest

from tests.unit.client.fake_server import outcome, spawned
from zstreampub.errors import ConnectionLost, InvalidOption, NextMismatch
from zstreampub.message import Batch


def hold(request):
    """Leave a request without an answer."""


def names(requests):
    return [(request.args[2]["producer"], request.args[2]["sequence"]) for request in requests]


def test_terms_go_to_the_server_as_they_are(server, client):
    server.on["publish"] = lambda request: request.ok(7)
    server.on["publish_many"] = lambda request: request.ok([7, 9])

    assert client.publish("a", 1, key="k", ttl_s=5, expected_next=7) == 7
    assert client.publish_many("a", iter([1, 2]), ids=["x", None], expected_next=7) == (7, 9)

    one, many = server.named("publish")[0].args, server.named("publish_many")[0].args
    assert one[:2] == ["a", 1] and {"key": "k", "ttl_s": 5, "expected_next": 7}.items() <= one[2].items()
    assert many[:2] == ["a", [1, 2]] and {"ids": ["x", None], "expected_next": 7}.items() <= many[2].items()
    assert set(many[2]) == {"ids", "expected_next", "producer", "sequence"}


def test_a_publish_whose_answer_was_lost_is_sent_again_under_its_name(server, client):
    server.on["publish"] = hold
    task = spawned(client.publish, "a", 1, delay_s=60)
    server.wait_for("publish")

    server.restart()
    server.on["publish"] = lambda request: request.ok("the id")

    assert outcome(task) == "the id"
    assert len(set(names(server.named("publish")))) == 1


def test_publishes_that_wait_at_the_same_time_have_no_producer_in_common(server, client):
    server.on["publish"] = hold
    tasks = [spawned(client.publish, "a", number, wait="acked") for number in range(100)]
    requests = server.wait(lambda: len(server.named("publish")) == 100 and server.named("publish"))

    assert len({producer for producer, _ in names(requests)}) == 100

    for request in requests:
        request.ok({"offset": 0})
    gevent.joinall(tasks, timeout=10)
    server.on["publish"] = lambda request: request.ok(1)
    client.publish("a", 1, delay_s=1)
    client.publish("a", 1, delay_s=1)

    known = {producer for producer, _ in names(requests)}
    later = names(server.named("publish")[100:])
    assert {producer for producer, _ in later} < known
    assert len({*names(requests), *later}) == 102, "no number comes again"


def test_an_error_comes_to_who_published_and_closing_ends_who_waits(server, client):
    server.on["publish"] = lambda request: request.error("NextMismatch", "The next offset of a is 5, not 4.")
    with pytest.raises(NextMismatch, match="is 5"):
        client.publish("a", 1, expected_next=4)

    server.on["publish"] = hold
    task = spawned(client.publish, "a", 1, wait="delivered")
    server.wait_for("publish", 2)
    client.close()

    assert isinstance(outcome(task), ConnectionLost)


def test_a_time_to_live_counts_by_the_servers_calendar_and_shares_a_request(server, client):
    server.limits = {"time": 1_000_000.0}
    server.restart()
    client.about()
    with client.producer() as producer:
        futures = [producer.publish("a", 1, ttl_s=5), producer.publish("a", 2), producer.publish("a", 3, ttl_s=0.5)]
        assert [future.get() for future in futures] == [0, 1, 2]

    batch, = map(Batch.parse, server.named("append")[0].args[0])
    short, none, long = (batch.expires[at] for at in (2, 1, 0))
    assert none is None and long - short == 4_500_000
    assert 0 <= short - 1_000_000_500_000 < 20_000_000


def test_content_that_is_its_own_id_shares_a_request(server, client):
    client.publish("a", {"n": 1}, unique="content")
    client.publish_many("a", ["x", "y"], unique="content")

    first, second = (Batch.parse(request.args[0][0]) for request in server.named("append"))
    assert first.metadata["id"] == Batch.of("b", [{"n": 1}]).with_content_ids().metadata["id"]
    assert len(set(second.metadata["id"])) == 2


@pytest.mark.parametrize("options", [
    {"unique": "yes"}, {"unique": "content", "id": "x"}, {"ttl_s": 0}, {"ttl_s": "1"}, {"ttl_s": True},
    {"ttl_s": float("nan")}, {"ttl_s": 2e9}], ids=str)
def test_terms_of_a_message_that_are_wrong_are_refused_before_anything_is_sent(server, client, options):
    with pytest.raises(InvalidOption):
        client.publish("a", 1, **options)
    assert not server.named("append")
