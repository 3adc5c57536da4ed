"""What a consumer has read and not handed out: all have a bound together, and nobody keeps it for nothing."""

import gc

import pytest

from tests.unit.consumers.desk import given, settle
from zstreampub.consumers import core
from zstreampub.message import Batch

KIB = 1 << 10
TOPIC = "ahead"     # of no other test, whose remains must not count


@pytest.fixture
def little(monkeypatch):
    """All consumers may read ahead little: what 8 of them may at the least."""
    monkeypatch.setattr(core, "ALL_READERS_BYTES", 256 * KIB)


def _fill(disk, batches):
    """Publish so many of 50 KiB, and have nothing of it in memory."""
    for _ in range(batches):
        disk.broker.publish_many(TOPIC, [bytes(KIB)] * 50)
    disk.reopen()
    settle()


def _held_bytes():
    """Return the bytes of all batches of TOPIC that anything has still."""
    gc.collect()
    return sum(one.size for one in gc.get_objects() if type(one) is Batch and one.topic == TOPIC)


def test_consumers_share_what_may_be_read_ahead(disk, little):
    _fill(disk, 20)

    members = [disk.join(f"c{number}", TOPIC, max_in_flight=1) for number in range(8)]
    settle()
    for member in members:      # by now each knows how many they are
        for _ in range(5):
            given(member)
            disk.consumers.ack(member.consumer.name, [], before=disk.broker.next)
            disk.advance(1)

    assert all(len(given(member)) == 1 for member in members)
    assert _held_bytes() < 2 * 256 * KIB + 8 * KIB


def test_what_nobody_has_room_for_is_let_go_and_read_again_when_somebody_has(disk):
    _fill(disk, 20)
    member = disk.join("c", TOPIC, max_in_flight=1)
    assert given(member) == [(0, 1)]
    assert _held_bytes() > 100 * KIB

    disk.advance(6)
    assert _held_bytes() <= 2 * KIB

    disk.consumers.ack("c", [0])
    disk.advance(1)
    assert given(member) == [(1, 1)]


def test_nothing_is_kept_of_a_batch_that_has_gone_out_to_a_member_that_is_full(disk):
    _fill(disk, 1)

    member = disk.join("c", TOPIC, max_in_flight=50)
    assert len(given(member)) == 50

    assert _held_bytes() == 0
