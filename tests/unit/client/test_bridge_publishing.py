"""What the bridge publishes: whatever is in trouble meanwhile, all that came is kept or told, in order."""

import pytest

from tests.unit.client.fake_server import DEADLINE_S, outcome, spawned
from zstreampub.client import Client
from zstreampub.client.outbox.left import look
from zstreampub.errors import MessageTooLarge, SpoolFull, StoreError
from zstreampub.receive.bridge import Publishing, Topics


class Bridge:
    """The publishing half of a bridge, what it has told, and why it is to end."""

    def __init__(self, client):
        self.told, self.failed = [], []
        self.publishing = Publishing(client, Topics("a", False), self.told.append, self.failed.append)

    def counts(self):
        counts = self.publishing.counts
        return counts.received, counts.sent, counts.refused, counts.waiting


@pytest.fixture
def spooling(server, tmp_path):
    with Client(server.endpoint, timeout_s=DEADLINE_S, outbox=tmp_path, outbox_when_full="block") as client:
        server.wait_for("about")
        yield client


def fail(monkeypatch, client, error, times):
    """Have the outbox's disk fail so many times."""
    store = client.outbox._store
    add = store.add_many

    def add_many(*args):
        nonlocal times
        times -= 1
        if times < 0:
            return add(*args)
        raise error

    monkeypatch.setattr(store, "add_many", add_many)


def test_a_full_disk_is_waited_for_and_the_order_stays(server, spooling, monkeypatch):
    fail(monkeypatch, spooling, SpoolFull("The disk is full."), times=2)
    bridge = Bridge(spooling)

    bridge.publishing.add_many([b"1", b"2"])
    bridge.publishing.add_many([b"3"])
    spooling.outbox.wait_until_sent(DEADLINE_S)

    assert [payload for _, payload in server.log] == [b"1", b"2", b"3"]
    assert bridge.told == ["nothing more is received until there is room: The disk is full."]
    assert bridge.counts() == (3, 3, 0, 0) and not bridge.failed


def test_any_other_trouble_of_the_disk_ends_it_and_what_was_in_hand_is_told(server, spooling, monkeypatch):
    fail(monkeypatch, spooling, StoreError("The disk is broken."), times=1 << 30)
    bridge = Bridge(spooling)

    task = spawned(bridge.publishing.add_many, [b"1", b"2"])
    server.wait(lambda: bridge.failed)
    bridge.publishing.stop()
    outcome(task)

    assert isinstance(bridge.failed[0], StoreError) and bridge.publishing.unkept == 2
    assert bridge.counts() == (2, 0, 0, 2)


def test_what_is_known_to_be_too_large_is_kept_with_what_was_refused(server, spooling, tmp_path):
    server.wait(lambda: spooling._publisher.limits)
    bridge = Bridge(spooling)

    bridge.publishing.add_many([b"1", bytes(2 << 20), b"3"])
    spooling.outbox.wait_until_sent(DEADLINE_S)
    spooling.close()

    assert [payload for _, payload in server.log] == [b"1", b"3"]
    assert bridge.counts() == (3, 2, 1, 0)
    [refused] = look(tmp_path).refused
    assert refused.messages[0].payload == bytes(2 << 20) and isinstance(refused.error, MessageTooLarge)


def test_what_an_earlier_run_has_left_is_counted(server, tmp_path):
    server.stop()
    with Client(server.endpoint, outbox=tmp_path) as client:
        client.publish_many("a", [b"1", b"2"])
    server.start()

    with Client(server.endpoint, outbox=tmp_path) as client:
        bridge = Bridge(client)
        before = bridge.counts()
        client.outbox.wait_until_sent(DEADLINE_S)
        assert (before, bridge.counts()) == ((0, 0, 0, 2), (0, 2, 0, 0))


def test_without_a_spool_a_server_that_is_full_is_waited_for(server, client):
    def full_once(request):
        del server.on["append"]
        request.error("StoreFull", "No room.")

    server.on["append"] = full_once
    bridge = Bridge(client)

    bridge.publishing.add_many([b"1", b"2"])

    assert [payload for _, payload in server.log] == [b"1", b"2"]
    assert bridge.told == ["nothing more is received until there is room: No room."]
    assert bridge.counts() == (2, 2, 0, 0)


def test_without_a_spool_what_is_refused_is_told_and_the_rest_goes_on(server, client):
    server.wait(lambda: client._publisher.limits)
    bridge = Bridge(client)

    bridge.publishing.add_many([b"1", bytes(2 << 20), b"3"])

    assert [payload for _, payload in server.log] == [b"1", b"3"]
    assert len(bridge.told) == 1 and "was refused" in bridge.told[0]
    assert bridge.counts() == (3, 2, 1, 0)
