"""What consumers are after the store was closed and opened again, and after the server has died."""

import gevent
import pytest

from tests.hand_store import HandStore, let_run
from tests.unit.consumers.desk import given, settle, taken
from zstreampub.broker import Broker
from zstreampub.consumers import journal
from zstreampub.errors import StaleDelivery, StoreClosed
from zstreampub.settings import Settings


def test_a_consumer_is_there_again_with_all_that_is_pending(disk):
    disk.broker.publish_many("a", list(range(10)))
    member = disk.join(max_in_flight=6, backoff_s=[1, 2], max_deliveries=7)
    got = taken(member)
    disk.consumers.ack("c", [0, 1, 3])
    disk.consumers.nack("c", 2, delay_s=50, reason="later")
    before = disk.describe()

    disk.reopen()

    after = disk.describe()
    for same in ("patterns", "settings", "mode", "cursor", "floor", "pending", "waiting", "acked", "created"):
        assert after[same] == before[same], same
    assert after["members"] == []
    state = disk.consumers.by_name["c"].state
    assert (state.pending[2].error, state.pending[4].token) == ("later", got[4].token)


def test_leases_of_before_stay_for_the_grace_and_are_claimed_by_their_members(disk):
    disk.broker.publish_many("a", [1, 2, 3])
    member = disk.join()
    held = [[one.offset, one.token] for one in taken(member)]
    disk.reopen()

    member = disk.join(held=held[:1])

    assert member.held == held[:1]
    assert given(member) == []
    disk.advance(9)
    assert disk.consumers.ack("c", held[1:2]) == 1       # also without having joined
    disk.advance(2)
    assert given(member) == [(2, 2)]
    with pytest.raises(StaleDelivery):
        disk.consumers.ack("c", held[2:])


def test_what_was_given_back_before_the_end_is_free_at_once(disk):
    disk.broker.publish_many("a", [1, 2])
    member = disk.join()
    taken(member)
    member.close()
    settle()

    disk.reopen()

    assert given(disk.join()) == [(0, 2), (1, 2)]


def test_a_token_or_a_delivery_number_is_never_given_again(disk):
    disk.broker.publish("a", 1)
    tokens, deliveries = [], []
    for _ in range(4):
        delivery, = taken(disk.join())
        tokens.append(delivery.token)
        deliveries.append(delivery.delivery)
        disk.reopen()
        disk.advance(11)

    assert tokens == sorted(set(tokens)) and tokens[-1] < 1 << 53
    assert deliveries == [1, 2, 3, 4]


def test_the_order_of_keys_is_kept(disk):
    disk.broker.publish_many("a", list(range(5)), keys=["x", "x", "y", "x", "y"])
    member = disk.join(mode="key_ordered")
    assert given(member) == [(0, 1), (2, 1)]
    disk.consumers.ack("c", 2)
    settle()
    assert given(member) == [(4, 1)]

    disk.reopen()
    disk.broker.publish("a", 5, key="x")
    member = disk.join()
    assert given(member) == []
    disk.advance(11)

    assert given(member) == [(0, 2), (4, 2)]
    for offset in (0, 1, 3):
        disk.consumers.ack("c", offset)
        settle()
    assert given(member) == [(5, 1)]


def test_an_ack_that_is_repeated_after_the_end_is_fine(disk):
    disk.broker.publish_many("a", [1, 2])
    delivery, dead = taken(disk.join())
    named = [[delivery.offset, delivery.token]]
    disk.consumers.ack("c", named)
    disk.consumers.reject("c", [[dead.offset, dead.token]])

    disk.reopen()

    assert disk.consumers.ack("c", named) == 0


def test_snapshots_bound_the_journal_and_lose_nothing(disk):
    disk.consumers._snapshots.every_bytes = 100
    disk.broker.publish_many("a", list(range(300)))
    member = disk.join(max_in_flight=100)
    other = disk.join("idle", max_in_flight=50)
    given(other)
    settled = set()
    for n in range(60):
        for delivery in taken(member)[n % 7::7]:
            delivery.ack()
            settled.add(delivery.offset)
        disk.advance(1)
    settle()

    assert disk.consumers._snapshots.rounds > 3
    assert len(disk.broker.store.journal()) < 60
    state = disk.consumers.by_name["c"].state
    before = {offset: (lease.token, lease.delivery) for offset, lease in state.pending.items()}
    disk.reopen()
    state = disk.consumers.by_name["c"].state
    assert {offset: (lease.token, lease.delivery) for offset, lease in state.pending.items()} == before
    assert settled.isdisjoint(before)
    assert disk.describe("idle")["pending"] == 50


def test_the_more_a_snapshot_takes_the_more_must_change_before_the_next(disk):
    snapshots = disk.consumers._snapshots
    disk.broker.publish_many("a", list(range(4_000)))
    given(disk.join(max_in_flight=4_000))
    disk.consumers.ack("c", list(range(0, 4_000, 2)))
    snapshots.round()
    snapshots.every_bytes = 100
    before, weight = snapshots.rounds, disk.consumers._writing.weight

    for offset in range(1, 101, 2):
        disk.consumers.ack("c", [offset])
    settle()

    assert disk.consumers._writing.weight - weight > 3 * 100
    assert snapshots.rounds == before > 0


def test_a_snapshot_takes_nothing_as_settled_that_is_not_on_disk(clock):
    store = HandStore(Settings())
    broker = Broker(store, store._settings)
    gevent.spawn(broker.publish_many, "a", list(range(4)))
    let_run()
    store.settle()
    gevent.spawn(broker.subscribe, "a", consumer="c", start="earliest")
    let_run()
    store.settle()
    assert len(broker.consumers.by_name["c"].state.pending) == 4

    broker.consumers.settle("ack", "c", [0, 1], None, lambda *_: None)
    let_run()           # on its way to the disk, and not there
    gevent.spawn(broker.consumers._snapshots.round)
    let_run()

    parts = [value for append in store._pending for key, value in (append.records or {}).items()
             if key.startswith(journal.PARTS)]
    offsets = [first for lease in journal.unpack_part(parts[0]) for first in lease[5:]]
    assert offsets == [0, 4]


def test_a_seek_counts_and_what_was_before_it_does_not(disk):
    disk.broker.publish_many("a", list(range(5)))
    member = disk.join()
    delivery, *_ = taken(member)
    disk.consumers.ack("c", [0, 1])
    member.close()
    disk.consumers.seek("c", 3)

    disk.reopen()

    assert (disk.describe()["cursor"], disk.describe()["pending"], disk.describe()["acked"]) == (3, 0, 2)
    with pytest.raises(StaleDelivery):
        disk.consumers.ack("c", [[2, delivery.token]])
    assert given(disk.join()) == [(3, 1), (4, 1)]


def test_what_was_deleted_stays_deleted(disk):
    disk.broker.publish("a", 1)
    disk.join()
    settle()
    assert disk.consumers.delete("c")

    disk.reopen()

    assert disk.consumers.list() == []
    assert disk.broker.store.records(b"consumers/") == []
    assert given(disk.join()) == [(0, 1)]


def test_a_replaced_payload_is_kept_until_the_message_is_settled(disk):
    disk.broker.publish_many("a", ["old", "other"])
    disk.consumers.create("c", "a", start="earliest")
    disk.consumers.replace("c", 0, "new")

    disk.reopen()

    first, second = taken(disk.join())
    assert (first.payload, second.payload) == ("new", "other")
    first.ack()
    settle()
    disk.reopen()
    assert disk.consumers.by_name["c"].instead == {}
    assert disk.broker.store.records(b"consumers/instead/") == []


def test_a_closed_broker_settles_nothing(disk):
    disk.broker.publish("a", 1)
    delivery, = taken(disk.join())
    disk.broker.close()

    with pytest.raises(StoreClosed):
        delivery.ack()
    disk.open()
    assert disk.describe()["pending"] == 1


def test_what_was_given_back_unseen_does_not_count_as_delivered_after_reopening_either(disk):
    disk.broker.publish("a", 1)
    member = disk.join(max_deliveries=1)
    delivery, = taken(member)
    disk.consumers.nack("c", [[delivery.offset, delivery.token]], unseen=True, member=member.id)

    disk.reopen()

    assert given(disk.join()) == [(0, 1)]


def test_nor_does_what_was_on_its_way_to_a_member_that_was_about_to_leave(disk):
    disk.broker.publish_many("a", [1, 2])
    member = disk.join(max_deliveries=1)
    settle()
    disk.consumers.nack("c", [], unseen=True, member=member.id)

    disk.reopen()       # before it has left

    assert given(disk.join()) == [(0, 1), (1, 1)]
