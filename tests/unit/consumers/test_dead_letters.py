"""Dead letters: which messages become some, what they say, and what can be done with them."""

import pytest

from tests.hand_store import let_run
from tests.unit.consumers.desk import Desk, given, settle, taken, told
from zstreampub.errors import AccessError, InvalidOption, InvalidTopic, StaleDelivery, StoreFull


def test_what_is_rejected_becomes_a_dead_letter_that_says_where_it_came_from(desk):
    desk.broker.publish("a", {"n": 1}, key="k", headers={"h": 1}, id="i")
    delivery, = taken(desk.join())

    assert delivery.reject("no such order") == 1

    letter, = desk.consumers.dead("c")
    assert (letter["topic"], letter["payload"], letter["key"]) == ("$dead.c", {"n": 1}, "k")
    assert letter["headers"] == {
        "h": 1, "dead-reason": "rejected", "dead-error": "no such order", "dead-deliveries": 1, "dead-topic": "a",
        "dead-offset": 0, "dead-time": delivery.time}
    assert "id" not in letter
    assert (desk.describe()["pending"], desk.describe()["dead"], desk.describe()["floor"]) == (0, 1, 1)


def test_a_reject_that_is_repeated_is_fine_and_makes_no_second_letter(desk):
    desk.broker.publish("a", 1)
    delivery, = taken(desk.join())

    assert (delivery.reject(), delivery.reject()) == (1, 0)
    assert len(desk.consumers.dead("c")) == 1


def test_after_the_last_delivery_a_message_is_dead_however_that_ended(desk):
    desk.broker.publish_many("a", ["lapses", "is given back", "dies with its member"])
    member = desk.join(max_deliveries=2)
    lapses, back, dies = taken(member)
    for delivery in (lapses, back, dies):
        delivery.nack()
    lapses, back, dies = taken(member)

    assert back.nack(reason="cannot parse it") == 1
    lapses.extend(5)
    desk.advance(6)
    member.close()
    settle()

    letters = desk.consumers.dead("c")
    assert [letter["headers"]["dead-reason"] for letter in letters] == ["max_deliveries"] * 3
    assert [letter["headers"]["dead-deliveries"] for letter in letters] == [2] * 3
    assert [letter["headers"]["dead-error"] for letter in letters] == ["cannot parse it", "", ""]
    with pytest.raises(StaleDelivery):
        lapses.ack()


def test_without_a_limit_a_message_is_delivered_again_and_again(desk):
    desk.broker.publish("a", 1)
    member = desk.join(max_deliveries=0)

    for n in range(1, 30):
        assert given(member) == [(0, n)]
        desk.consumers.nack("c", 0)


def test_many_are_buried_in_order(desk):
    desk.broker.publish_many("a", list(range(1200)))
    member = desk.join(max_in_flight=2000)
    taken(member)

    assert desk.consumers.reject("c", [[0, 1200, member.queue.messages or taken_token(desk)]]) == 1200

    letters = desk.consumers.dead("c", limit=2000)
    assert [letter["payload"] for letter in letters] == list(range(1200))
    assert desk.describe()["dead"] == 1200
    assert desk.consumers.purge("c") == 1200
    assert (desk.describe()["dead"], desk.consumers.dead("c")) == (0, [])


def taken_token(desk):
    return next(iter(desk.consumers.by_name["c"].state.pending.values())).token


def test_dead_letters_are_listed_from_an_offset_and_settled_one_by_one(disk):
    disk.broker.publish_many("a", list(range(5)))
    disk.join()
    settle()
    disk.consumers.reject("c", list(range(5)))
    offsets = [letter["offset"] for letter in disk.consumers.dead("c")]

    assert disk.consumers.purge("c", offsets=[offsets[0], offsets[2], 999]) == 2
    assert disk.consumers.purge("c", offsets=[offsets[0]]) == 0
    disk.reopen()

    assert [letter["offset"] for letter in disk.consumers.dead("c")] == [offsets[1], *offsets[3:]]
    assert [letter["offset"] for letter in disk.consumers.dead("c", first=offsets[3], limit=1)] == [offsets[3]]
    assert disk.describe()["dead"] == 3


def test_a_dead_letter_that_is_driven_again_goes_where_it_came_from_or_elsewhere(disk):
    disk.broker.publish_many("a", ["x", "y", "z"], keys=["k", None, None], headers=[{"h": 1}, None, None])
    member = disk.join()
    taken(member)
    disk.consumers.reject("c", [0, 1, 2])
    first, second, _ = (letter["offset"] for letter in disk.consumers.dead("c"))

    assert disk.consumers.redrive("c", offsets=[first]) == 1
    assert disk.consumers.redrive("c", offsets=[second], topic="repaired") == 1

    again, = taken(member)
    assert (again.topic, again.payload, again.key, again.headers, again.delivery) == ("a", "x", "k", {"h": 1}, 1)
    assert disk.broker.last("repaired").payload == "y"
    assert disk.broker.last("repaired").headers is None
    disk.reopen()
    assert [letter["payload"] for letter in disk.consumers.dead("c")] == ["z"]
    assert disk.consumers.redrive("c") == 1
    assert disk.consumers.redrive("c") == 0


def test_dead_letters_are_driven_to_valid_topics_of_users_only(desk):
    desk.join()

    with pytest.raises(InvalidTopic):
        desk.consumers.redrive("c", topic="a..b")
    with pytest.raises(AccessError):
        desk.consumers.redrive("c", topic="$dead.d")


def test_a_flood_of_dead_letters_pauses_the_consumer_and_says_so(disk, caplog):
    disk.broker.publish_many("a", list(range(10)))
    member = disk.join(max_dead=3, max_in_flight=2)
    taken(member)
    disk.consumers.reject("c", [0, 1])
    taken(member)
    disk.consumers.reject("c", [2, 3])

    notice, = [notice.fields for notice in told(member)]
    assert notice["control"] == "paused" and notice["why"].startswith("dead letters: 4")
    assert disk.describe()["paused"] == notice["why"]
    assert len([record for record in caplog.records if "paused" in record.message]) == 1
    disk.reopen()
    assert disk.describe()["paused"] == notice["why"]
    member = disk.join()
    assert given(member) == []

    disk.consumers.purge("c")
    disk.advance(11)
    assert disk.consumers.resume("c")["paused"] is False
    assert len(given(member)) == 6


@pytest.mark.parametrize("mode", ["shared", "key_ordered"])
def test_what_has_expired_before_it_was_handed_out_is_skipped_and_told_or_dead(desk, mode):
    skips = desk.join("c", max_in_flight=1, mode=mode)
    buries = desk.join("d", max_in_flight=1, mode=mode, expired="dead")
    desk.broker.publish("a", "lasts", key="k")
    desk.broker.append_and_wait(_expiring(desk, 10))
    desk.broker.publish("a", "lasts", key="k")
    assert given(skips) == given(buries) == [(0, 1)]
    desk.advance(11)

    desk.consumers.ack("c", 0)
    desk.consumers.ack("d", 0)

    gap, *gaps, handout = (skips.get() for _ in range(3))
    assert [(gap.why, gap.count) for gap in (gap, *gaps)] == [("expired", 1)] * 2
    assert (handout.batch.first, given(buries)) == (3, [(3, 1)])
    assert [letter["headers"]["dead-reason"] for letter in desk.consumers.dead("d")] == ["expired"] * 2
    assert (desk.describe("c")["pending"], desk.describe("d")["pending"]) == (1, 1)


def test_what_expires_while_it_waits_is_not_delivered_again(desk):
    desk.broker.append_and_wait(_expiring(desk, 10))
    member = desk.join()
    taken(member)

    desk.consumers.nack("c", [0, 1], delay_s=20)
    desk.advance(21)

    assert [gap.why for gap in told(member)] == ["expired"] * 2
    assert desk.describe()["pending"] == 0


def _expiring(desk, ttl_s):
    from zstreampub.message import Batch
    from zstreampub.store import Append
    at = desk.clock.wall_us() + int(ttl_s * 1e6)
    return Append([Batch.of("a", ["x", "y"], ["k", "k"], expires=[at, at])])


def test_while_there_is_no_room_for_dead_letters_nothing_is_lost(clock):
    desk = Desk("memory:", clock, max_store_bytes=1 << 20)
    desk.broker.publish_many("a", [bytes(1000)] * 2)
    member = desk.join(max_deliveries=1)
    first, _ = taken(member)
    with pytest.raises(StoreFull):
        desk.broker.publish_many("full", [bytes(500_000), bytes(545_800)])
        desk.broker.publish("full", bytes(1000))

    with pytest.raises(StoreFull):
        first.reject("bad")
    desk.advance(31)
    assert (desk.describe()["pending"], desk.describe()["dead"]) == (2, 0)
    desk.broker.store.trim(desk.broker.check_patterns("full"), desk.broker.next)
    for _ in range(3):
        desk.advance(1)
        let_run()

    assert (desk.describe()["pending"], desk.describe()["dead"]) == (0, 2)
    desk.broker.close()


def test_what_replaced_a_payload_is_what_dies(desk):
    desk.broker.publish("a", "old")
    desk.consumers.create("c", "a", start="earliest")
    desk.consumers.replace("c", 0, "new")
    delivery, = taken(desk.join())

    assert delivery.payload == "new"
    delivery.reject()
    assert desk.consumers.dead("c")[0]["payload"] == "new"


def test_a_dead_letter_of_a_consumer_of_dead_letters_is_redriven_only_to_a_topic_that_is_named(desk):
    desk.broker.publish("a", 1)
    delivery, = taken(desk.join())
    delivery.reject()
    letter, = taken(desk.join("mortician", "$dead.c"))
    letter.reject()
    settle()

    with pytest.raises(InvalidOption, match="nobody publishes to"):
        desk.consumers.redrive("mortician")
    assert desk.consumers.redrive("mortician", topic="b") == 1
    assert desk.broker.last("b").payload == 1
    assert desk.consumers.redrive("c") == 1
