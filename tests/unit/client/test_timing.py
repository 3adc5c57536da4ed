"""Deadlines and pauses of the client, on a clock of the test's own."""

from zstreampub.client.timing import Backoff, Deadlines


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Entry:
    def __init__(self, timeout_s, expired):
        self.timeout_s = timeout_s
        self._expired = expired

    def expire(self):
        self._expired.append(self)


def test_entries_expire_when_their_own_time_has_come_and_not_before():
    clock, expired = Clock(), []
    deadlines = Deadlines(clock)
    long, short = Entry(5, expired), Entry(1, expired)
    deadlines.add(long)
    clock.now = 101.0
    deadlines.add(short)

    next_due = deadlines.expire(101.9)
    assert (expired, next_due) == ([], 102.0)
    next_due = deadlines.expire(102.0)
    assert (expired, next_due) == ([short], 105.0)
    next_due = deadlines.expire(200.0)

    assert (expired, next_due) == ([short, long], None)


def test_an_entry_that_was_discarded_never_expires():
    clock, expired = Clock(), []
    deadlines = Deadlines(clock)
    first, second = Entry(1, expired), Entry(1, expired)
    deadlines.add(first)
    deadlines.add(second)

    deadlines.discard(first)
    deadlines.discard(Entry(7, expired))
    deadlines.expire(1000.0)

    assert expired == [second]
    assert len(deadlines) == 0


def test_an_entry_that_goes_while_another_expires_is_not_called():
    clock, expired = Clock(), []
    deadlines = Deadlines(clock)
    second = Entry(1, expired)

    class First(Entry):
        def expire(self):
            deadlines.discard(second)

    deadlines.add(First(1, expired))
    deadlines.add(second)

    deadlines.expire(1000.0)

    assert expired == []


def test_a_pause_doubles_up_to_its_most_and_starts_again_after_a_success():
    backoff = Backoff(0.05, 2.0, uniform=lambda low, high: high)

    pauses = [backoff.pause_s() for _ in range(8)]
    backoff.reset()

    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert backoff.pause_s() == 0.05


def test_a_pause_is_shortened_at_random_by_at_most_a_half():
    pauses = {Backoff(1.0).pause_s() for _ in range(50)}

    assert len(pauses) > 1
    assert all(0.5 <= pause <= 1 for pause in pauses)
