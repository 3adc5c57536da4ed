"""A subscriber that is stopped and continued later: each policy keeps what it promises.

The subscriber is a process with a stock client, stopped with SIGSTOP while 20 MB are
published; it is stopped for less than two heartbeats, so that it is slow and not lost.
"""

import json
from contextlib import contextmanager

import gevent
import pytest

from tests.processes import Child, ServerProcess, client, controls, messages, wait_until

QUEUE = 100             # messages in the slow one's queue
WINDOW = 102            # messages that a stock client has room for, and one or two on the way
WARM = 5                # messages read before it is stopped
BATCHES, BATCH = 200, 100
PAYLOAD = b"x" * 1_000
KEYS = 7


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "server", heartbeat_s=60, keepalive_s=300, block_timeout_s=30) as server:
        yield server


@contextmanager
def _subscriber(tmp_path, server, policy, **options):
    options = {"patterns": "slow.>", "heartbeat": 60, "short": True,
               "subscribe": {"policy": policy, "max_messages": QUEUE, **options}}
    arguments = "tests.stock_process", "subscribe", server.endpoint, json.dumps(options)
    with Child(tmp_path / "subscriber", *arguments) as one:
        wait_until(one.said, "the greeting")
        yield one


class Fast:
    """A subscriber with the default policy that reads all the time; it must not notice the slow one."""

    def __init__(self, one):
        self.offsets = []
        stream = one.subscribe("slow.>")
        next(stream)
        self._task = gevent.spawn(self._read, stream)

    def _read(self, stream):
        for item in stream:
            if "payload" in item:
                self.offsets.append(item["offset"])

    def close(self):
        self._task.kill()


@pytest.fixture
def fast(server):
    with client(server, heartbeat=60) as one:
        fast = Fast(one)
        yield fast
        fast.close()


def _warm_up(server, slow):
    """Let the subscriber read a little, so that it has granted its window, then stop it."""
    with client(server, heartbeat=60) as publisher:
        for number in range(WARM):
            publisher.publish("slow.a", number)
        wait_until(lambda: len(messages(slow.said())) == WARM, "the first messages")
    slow.freeze()


def _publish(server, keys=None):
    """Publish 20 MB; return the offset behind it."""
    keys = [str(number % KEYS) for number in range(BATCH)] if keys else None
    with client(server, heartbeat=60) as publisher:
        for _ in range(BATCHES):
            _, next_offset = publisher.publish_many("slow.a", [PAYLOAD] * BATCH, {"keys": keys} if keys else {})
    return next_offset


def _told(items):
    """Return the offsets of the messages and those that the gaps name, each list in the order it came."""
    missed = [offset for gap in controls(items, "gap") for offset in range(gap["first"], gap["next"])]
    return [message["offset"] for message in messages(items)], missed


def _check_others(server, fast, next_offset, rss_before):
    wait_until(lambda: len(fast.offsets) >= next_offset, lambda: f"{len(fast.offsets)} of {next_offset} messages")
    assert fast.offsets == list(range(next_offset))
    assert server.rss() < rss_before + (48 << 20)


def _stops_and_goes_on(tmp_path, server, fast, policy, keys=None):
    """Run the usual course of events; return all items until the last message, and the offset behind it."""
    with _subscriber(tmp_path, server, policy) as slow:
        _warm_up(server, slow)
        rss = server.rss()
        next_offset = _publish(server, keys)
        _check_others(server, fast, next_offset, rss)

        slow.thaw()

        with client(server, heartbeat=60) as publisher:
            wait_until(lambda: _lag(publisher) == 0, "the slow one to catch up")
            last = publisher.publish("slow.z", "the last")
        wait_until(lambda: messages(slow.said())[-1]["offset"] == last, "the last message")
        return slow.said(), last + 1


def _lag(asking):
    return max(one["lag"] for one in asking.subscriptions())


def test_spill_loses_nothing_when_its_subscriber_was_stopped(tmp_path, server, fast):
    items, next_offset = _stops_and_goes_on(tmp_path, server, fast, "spill")

    assert [message["offset"] for message in messages(items)] == list(range(next_offset))
    assert controls(items, "gap") == []


def test_drop_skips_the_newest_and_says_which_at_the_place(tmp_path, server, fast):
    items, next_offset = _stops_and_goes_on(tmp_path, server, fast, "drop")

    got, missed = _told(items)
    assert sorted(got + missed) == list(range(next_offset)), "each offset is there or told as missed, never both"
    assert got == sorted(got)
    assert QUEUE <= len(got) <= WARM + WINDOW + QUEUE + BATCH + 1
    assert sum(gap["count"] for gap in controls(items, "gap")) == len(missed)
    assert {gap["why"] for gap in controls(items, "gap")} == {"drop"}
    _check_places(items)


def test_drop_oldest_keeps_the_newest_and_says_what_went_at_the_place(tmp_path, server, fast):
    items, next_offset = _stops_and_goes_on(tmp_path, server, fast, "drop_oldest")

    got, missed = _told(items)
    assert sorted(got + missed) == list(range(next_offset)), "each offset is there or told as missed, never both"
    assert got == sorted(got)
    assert got[-QUEUE - 1:] == list(range(next_offset - QUEUE - 1, next_offset)), "the newest are kept"
    assert sum(gap["count"] for gap in controls(items, "gap")) == len(missed)
    assert {gap["why"] for gap in controls(items, "gap")} == {"drop_oldest"}
    _check_places(items)


def test_conflate_keeps_the_newest_of_each_key_and_says_how_many_went(tmp_path, server, fast):
    items, next_offset = _stops_and_goes_on(tmp_path, server, fast, "conflate", keys=True)

    got = [message["offset"] for message in messages(items)]
    assert got == sorted(set(got))
    newest = {number % KEYS: next_offset - 1 - BATCH + number for number in range(BATCH)}
    assert got[-KEYS - 1:] == [*sorted(newest.values()), next_offset - 1]
    assert len(got) + sum(gap["count"] for gap in controls(items, "gap")) == next_offset
    assert {gap["why"] for gap in controls(items, "gap")} == {"conflate"}


def test_disconnect_says_where_to_resume_and_nothing_is_lost(tmp_path, server, fast):
    with _subscriber(tmp_path, server, "disconnect") as slow:
        _warm_up(server, slow)
        rss = server.rss()
        next_offset = _publish(server)
        _check_others(server, fast, next_offset, rss)
        with client(server, heartbeat=60) as asking:
            wait_until(lambda: len(asking.subscriptions()) == 1, "the slow one's end")

        slow.thaw()

        assert slow.wait() == 0
        *items, ended = slow.said()
        end, = controls(items, "end")
        assert (end["why"], ended["ended"], items[-1]) == ("SlowConsumer", "SlowConsumer", end)
        got = [message["offset"] for message in messages(items)]
        assert got == list(range(len(got))) and end["resume"] == len(got)
        with client(server, heartbeat=60) as again:
            rest = messages(again.subscribe("slow.>", {"start": end["resume"], "until": "end"}))
        assert [message["offset"] for message in rest] == list(range(len(got), next_offset))


def test_block_holds_the_publishers_of_its_topics_until_its_subscriber_goes_on(tmp_path, server, fast):
    with _subscriber(tmp_path, server, "block") as slow, client(server, heartbeat=60) as other:
        _warm_up(server, slow)
        rss = server.rss()
        publishing = gevent.spawn(_publish, server)
        wait_until(lambda: max(one["holding"] for one in other.subscriptions()), "a publisher that is held")

        assert [other.publish("other.a", number) for number in range(20)], "other topics are not held"
        held_at = wait_until(lambda: _steady(lambda: other.stats()["published"]), "the publisher to stand still")
        assert held_at < WARM + 20 + WINDOW + QUEUE + 2 * BATCH and not publishing.ready()
        slow.thaw()

        next_offset = publishing.get(timeout=60)
        slow_got = wait_until(lambda: _complete(slow, WARM + BATCHES * BATCH), "all messages")
        assert slow_got == sorted(set(slow_got)) and slow_got[-1] == next_offset - 1
        assert [item for item in slow.said() if item.get("control") not in ("subscribed", None)] == []
        wait_until(lambda: len(fast.offsets) == WARM + BATCHES * BATCH, "all messages at the fast one")
        assert server.rss() < rss + (48 << 20)


def test_block_disconnects_its_subscriber_when_the_time_is_over(tmp_path, server, fast):
    with _subscriber(tmp_path, server, "block", block_timeout_s=0.5) as slow:
        _warm_up(server, slow)
        rss = server.rss()
        next_offset = _publish(server)      # held once, for half a second
        _check_others(server, fast, next_offset, rss)

        slow.thaw()

        assert slow.wait() == 0
        *items, ended = slow.said()
        end, = controls(items, "end")
        assert (end["why"], ended["ended"]) == ("SlowConsumer", "SlowConsumer")
        got = [message["offset"] for message in messages(items)]
        assert got == list(range(end["resume"]))


def _check_places(items):
    """Every gap stands between the message before it and the one behind it."""
    place = 0
    for item in items:
        if "payload" in item or item.keys() == {"offset"}:
            assert item["offset"] == place
            place = item["offset"] + 1
        elif item["control"] == "gap":
            assert item["first"] == place
            place = item["next"]


def _steady(value):
    before = value()
    gevent.sleep(0.3)
    return before if value() == before else None


def _complete(slow, count):
    offsets = [message["offset"] for message in messages(slow.said())]
    return offsets if len(offsets) >= count else None
