"""The state of a consumer by itself: leases, the floor, the times, and how it is written down and read again."""

import pytest

from tests.unit.consumers.desk import HandClock
from zstreampub.consumers import journal
from zstreampub.consumers.dead import DeadLetters
from zstreampub.consumers.lease import DYING, IN_FLIGHT, PARKED, WAITING, Lease, Mark, add_run, count, runs_of
from zstreampub.consumers.options import complete
from zstreampub.consumers.state import RECENT, ConsumerState
from zstreampub.settings import Settings


class Holder:
    """A member as the state sees it."""

    ended = False

    def __init__(self):
        self.in_flight = 0

    def count(self, lease, many):
        self.in_flight += many


def hand_out(state, first, next, token=5, due=30.0, member=None):
    state.cursor = next
    lease = Lease(IN_FLIGHT, token, 1, due, member)
    state.add(lease, first, next)
    state.arm(lease)
    return lease


@pytest.fixture
def state():
    return ConsumerState(1, 0)


def test_runs_are_joined_where_they_meet():
    runs = []
    for first, next in ((0, 2), (2, 3), (5, 6), (6, 9)):
        add_run(runs, first, next)

    assert (runs, count(runs)) == ([0, 3, 5, 9], 7)
    assert runs_of([1, 2, 5]) == [1, 3, 5, 6]
    assert runs_of([]) == []


def test_the_floor_is_the_lowest_pending_offset_or_the_cursor(state):
    assert (state.floor, state.lowest) == (0, None)
    first = hand_out(state, 0, 10)
    hand_out(state, 20, 30, token=6)
    assert (state.floor, state.live, state.in_flight) == (0, 20, 20)

    state.remove(first, [0, 5, 6, 10])
    assert state.floor == 5
    state.remove(first, [5, 6])

    assert state.floor == 20
    assert state.runs(25) == [(20, 30)]


def test_what_a_member_has_is_counted_as_it_comes_and_goes(state):
    one, other = Holder(), Holder()
    lease = hand_out(state, 0, 10, member=one)
    assert (one.in_flight, lease.left, lease.size) == (10, 10, 10)

    again = Lease(IN_FLIGHT, 6, 2, 30.0, other)
    state.move(lease, [2, 4, 7, 8], again)
    assert (one.in_flight, other.in_flight, again.runs) == (7, 3, [2, 4, 7, 8])
    state.turn(lease, WAITING, 5.0)

    assert (one.in_flight, state.in_flight, state.waiting) == (0, 3, 7)
    assert lease.now(state.pending) == [0, 2, 4, 7, 8, 10]


def test_what_settles_is_pending_until_it_is_removed_and_goes_back_if_it_fails(state):
    lease = hand_out(state, 0, 4)
    mark = Mark(flush="a flush")
    state.mark(lease, [0, 3], mark)
    assert (state.live, state.floor, lease.left) == (1, 0, 1)
    assert mark.behind(1) is lease

    state.put_back(mark, lease, [1, 2])
    assert (state.live, lease.left) == (2, 2)
    state.remove(mark, [0, 3])

    assert (sorted(state.pending), state.settling) == ([1, 3], 0)


def test_deliveries_are_found_by_token_and_the_others_are_stale(state):
    lease = hand_out(state, 0, 4, token=5)
    parked, dying = Lease(PARKED), Lease(DYING, 7, 3)
    for at, other in ((4, parked), (5, dying)):
        state.cursor = at + 1
        state.add(other, at, at + 1)

    found, stale, marks = state.find(0, 8, 5)
    assert ([*found], stale, marks) == ([(lease, [0, 4])], [4, 5, 6, 7], [])
    assert state.find(0, 2, 6)[1] == [0, 1]
    mark = Mark(flush="a flush")
    state.mark(lease, [1, 2], mark)

    found, stale, marks = state.find(0, 3, None)
    assert ([*found], stale, marks) == ([(lease, [0, 1, 2, 3])], [], [mark])
    assert state.find(1, 2, 4)[1] == [1]


def test_tokens_of_the_last_settled_offsets_are_remembered(state):
    state.remember([0, 3 * RECENT], 5)
    state.remember([3 * RECENT, 3 * RECENT + 1], 6)

    assert len(state.recent) <= 2 * RECENT
    assert state.find(3 * RECENT, 3 * RECENT + 1, 6)[1] == []
    assert state.find(3 * RECENT, 3 * RECENT + 1, 5)[1] == [3 * RECENT]
    assert state.find(3 * RECENT - 1, 3 * RECENT, 5)[1] == []
    assert state.find(0, 1, 5)[1] == [0]


def test_leases_come_up_when_they_are_due_and_a_few_at_a_time(state):
    leases = [hand_out(state, n, n + 1, token=n, due=10.0 + n / 2) for n in range(6)]
    state.remove(leases[0], [0, 1])
    state.turn(leases[1], WAITING, 20.0)
    state.arm(leases[1])

    assert state.next_due == 11.0
    assert state.due(10.9, 10) == []
    assert state.due(12.0, 2) == [leases[2], leases[3]]
    assert state.due(30.0, 2) == [leases[4], leases[5]]
    assert state.due(30.0, 2) == []
    assert state.take_ready(10) == [1]
    assert state.next_due is None


def test_leases_that_have_ended_are_forgotten(state):
    for n in range(20_000):
        state.remove(hand_out(state, n, n + 1, due=1000.0 + n), [n, n + 1])

    assert state._armed < 10_000


def test_what_is_ready_is_taken_in_the_order_of_offsets(state):
    lease = hand_out(state, 0, 10)
    state.turn(lease, WAITING)
    state.make_ready(lease)
    assert state.take_ready(3) == [0, 1, 2]
    state.ready_again(0, 3)
    state.move(lease, [1, 2], Lease(IN_FLIGHT, 9, 2))

    assert state.take_ready(4) == [0, 2, 3, 4]
    assert state.take_ready(100) == [5, 6, 7, 8, 9]
    assert not state.has_ready


def test_what_is_handed_out_ahead_of_the_cursor_is_passed_by(state):
    hand_out(state, 0, 2)
    ahead = Lease(IN_FLIGHT, 6, 1)
    state.add(ahead, 5, 6)
    assert state.ahead == {5}

    hand_out(state, 2, 5)
    state.pass_by(5)

    assert (state.cursor, state.ahead, state.runs(10)) == (6, set(), [(0, 6)])


def replayed(changes, cursor=0):
    state, clock = ConsumerState(1, cursor), HandClock()
    replay = journal.Replay(state, DeadLetters("c"), clock)
    for change in changes:
        replay.change(*change)
    state.restore(clock.now(), 10.0)
    return state


def leased(first, next, token=5, delivery=1):
    return [journal.LEASED, IN_FLIGHT, token, delivery, 0, "", first, next]


def test_changes_are_replayed_in_order():
    state = replayed([
        (0, 10, 0, 0, leased(0, 10)),
        (10, 10, 2, 0, journal.settled([0, 2])),
        (10, 12, 2, 1, leased(10, 12, 6), leased(4, 5, 7, 2)),
        (12, 12, 2, 1, journal.gone([11, 12])),
    ])

    assert sorted(state.pending) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert (state.pending[4].token, state.pending[4].delivery) == (7, 2)
    assert (state.cursor, state.acked, state.redelivered, state.floor) == (12, 2, 1, 2)
    assert (state.recent, state.in_flight) == ({0: 5, 1: 5}, 9)


def test_changes_that_a_snapshot_has_already_change_nothing():
    changes = [(0, 10, 0, 0, leased(0, 10)), (10, 10, 3, 0, journal.settled([0, 3]))]

    once, twice = replayed(changes), replayed([*changes, *changes])

    assert sorted(once.pending) == sorted(twice.pending)
    assert (once.cursor, once.acked) == (twice.cursor, twice.acked)


def test_where_a_change_is_missing_the_cursor_stays_before_it():
    state = replayed([
        (0, 2, 0, 0, leased(0, 2)),
        (4, 6, 0, 0, leased(4, 6, 7)),          # [2, 4) was handed out by a change that was not stored
        (6, 6, 1, 0, journal.settled([4, 5])),
    ])

    assert (state.cursor, sorted(state.pending), state.ahead) == (2, [0, 1, 5], {4, 5})

    state = replayed([
        (0, 2, 0, 0, leased(0, 2)),
        (4, 6, 0, 0, leased(4, 6, 7)),
        (2, 6, 0, 0, leased(2, 4, 6)),          # it was written again
    ])
    assert (state.cursor, sorted(state.pending), state.ahead) == (6, [0, 1, 2, 3, 4, 5], set())


def test_dead_letters_that_are_settled_are_remembered_above_a_floor():
    dead = DeadLetters("c")

    dead.settle([5, 7, 9, 10])
    assert (dead.first, dead.done) == (0, {5, 6, 9})
    dead.settle([0, 6])

    assert (dead.first, dead.done) == (6, {6, 9})
    assert dead.as_map() == {"first": 6, "done": [6, 7, 9, 10]}


def test_the_backoff_grows_by_its_list_and_varies_by_its_jitter():
    options = complete({"backoff_s": (1.0, 10.0), "jitter": 0.5}, Settings())

    assert [options.delay_s(delivery, 0.5) for delivery in (0, 1, 2, 3, 99)] == [1, 1, 10, 10, 10]
    assert (options.delay_s(2, 0.0), options.delay_s(2, 1.0)) == (5, 15)
    assert complete({}, Settings()).delay_s(3, 0.9) == 0
