"""What happens to consumers between a change and its commit, and after a crash at that point."""

import gevent
import pytest

from tests.hand_consumer import CrashStore
from tests.hand_store import let_run
from tests.unit.consumers.desk import given, settle, taken
from zstreampub.broker import Broker
from zstreampub.errors import StaleDelivery, StoreCorrupt, StoreFull
from zstreampub.settings import Settings
from zstreampub.store import Gap


class Stage:
    """A broker over a CrashStore: nothing is committed before the test says so."""

    def __init__(self):
        self.store = CrashStore(Settings())
        self.open()

    def open(self):
        self.broker = Broker(self.store, Settings())
        self.consumers = self.broker.consumers

    def call(self, function, *arguments, **options):
        """Return a greenlet that runs it."""
        task = gevent.spawn(function, *arguments, **options)
        let_run()
        return task

    def done(self, function, *arguments, **options):
        """Return what it returns, with all commits that it takes."""
        task = self.call(function, *arguments, **options)
        while not task.ready():
            self.store.settle()
        self.store.settle()
        return task.get()

    def join(self, **options):
        return self.done(self.broker.subscribe, "a", consumer="c", start="earliest", **options)

    def crash(self):
        self.store = self.store.crash()
        self.open()

    @property
    def consumer(self):
        return self.consumers.by_name["c"]


@pytest.fixture
def stage(clock):
    return Stage()


def test_an_ack_that_is_repeated_is_answered_also_after_one_of_nothing(stage):
    stage.done(stage.broker.publish, "a", 1)
    delivery, = stage.join().take().messages()
    answers = []
    stage.consumers.settle("ack", "c", [[7, 7]], None, lambda *answer: answers.append(answer))
    assert isinstance(answers[0][1], StaleDelivery)
    stage.done(stage.consumers.create, "d", "a")
    first = stage.call(delivery.ack)

    again = stage.call(delivery.ack)
    stage.store.settle()

    assert (first.get(), again.get(timeout=1)) == (1, 0)


def test_a_gap_that_a_member_has_not_taken_does_not_bring_back_a_deleted_consumer(stage):
    member = stage.join()
    stage.consumer.tell_gap(Gap(0, 1, 1, "retention"))
    assert stage.done(stage.consumers.delete, "c")
    assert member.ended
    stage.store.settle()

    stage.crash()

    assert stage.consumers.by_name == {}


def test_too_many_dead_letters_do_not_bring_back_a_deleted_consumer(stage):
    stage.done(stage.broker.publish, "a", 1)
    delivery, = stage.join(max_dead=1).take().messages()
    deleting = stage.call(stage.consumers.delete, "c")
    while stage.store.reads:
        stage.store.let_read()
    stage.call(delivery.reject)
    while not deleting.ready():
        stage.store.settle()
    stage.store.settle()

    stage.crash()

    assert stage.consumers.by_name == {}


@pytest.mark.parametrize("change", ["delete", "seek"])
def test_what_is_written_while_a_consumer_is_moved_or_deleted_does_not_undo_that(stage, change):
    stage.done(stage.broker.publish_many, "a", [1, 2])
    stage.done(stage.consumers.create, "c", "a", start="earliest")
    moving = stage.call(stage.consumers.delete, "c") if change == "delete" else stage.call(stage.consumers.seek, "c", 1)
    assert stage.store.pending or stage.store.reads
    while stage.store.reads:
        stage.store.let_read()
    stage.consumer.tell_gap(Gap(0, 1, 1, "retention"))
    let_run()
    while not moving.ready():
        stage.store.settle()
    stage.store.settle()

    stage.crash()

    if change == "delete":
        assert stage.consumers.by_name == {}
    else:
        assert stage.consumer.state.cursor == 1


def test_an_ack_in_the_moment_of_a_seek_does_not_count_after_it(stage):
    stage.done(stage.broker.publish_many, "a", [1, 2])
    member = stage.join()
    delivery, _ = member.take().messages()
    member.close()
    stage.store.settle()
    moving = stage.call(stage.consumers.seek, "c", 0)
    while stage.store.reads:
        stage.store.let_read()
    stage.store.commit()
    stage.store._follower(stage.store._committed.popleft())     # the seek will go on in this turn of the hub
    answers = []
    stage.consumers.settle("ack", "c", [[0, delivery.token]], None, lambda *answer: answers.append(answer))
    while not moving.ready():
        stage.store.settle()
    stage.store.settle()
    assert len(answers) == 1

    stage.crash()

    assert not stage.consumer.has_settled(0)


def test_a_seek_on_a_store_that_has_died_raises_its_error(stage):
    stage.done(stage.broker.publish, "a", 1)
    stage.join().take()
    stage.consumer.removed(0, 1)
    let_run()
    stage.store.fail()
    stage.broker._fail(StoreCorrupt("It has died, says the test."))
    stage.store.tell()
    assert stage.consumer.has_changes

    moving = stage.call(stage.consumers.seek, "c", 0)
    while stage.store.reads:
        stage.store.let_read()

    with pytest.raises(StoreCorrupt):
        moving.get(timeout=1)
    assert stage.consumer.state.pending and not stage.consumer.frozen


def test_what_was_buried_is_not_pending_after_a_crash(stage):
    stage.done(stage.broker.publish_many, "a", [1, 2])
    first, second = stage.join().take().messages()
    burying = stage.call(first.reject)
    while stage.store.reads:
        stage.store.let_read()
    stage.store.commit()
    stage.store._follower(stage.store._committed.popleft())     # the undertaker goes on in this turn of the hub
    stage.consumers.settle("extend", "c", [[1, second.token]], {"seconds": 5}, lambda *_: None)
    stage.consumers.settle("reject", "c", [[1, second.token]], None, lambda *_: None)
    let_run()
    while stage.store.pending or stage.store.reads or stage.store.untold:
        stage.store.settle()
    burying.get()

    stage.crash()

    assert stage.consumer.state.pending == {}
    assert stage.consumer.dead.measure(stage.store) == 2


def test_what_was_rejected_while_its_hand_out_was_on_the_way_is_not_lost_with_that(stage, clock):
    stage.done(stage.broker.publish_many, "a", [1, 2, 3])
    stage.done(stage.consumers.create, "c", "a", start="earliest")
    stage.call(stage.broker.subscribe, "a", consumer="c")
    while stage.store.reads:
        stage.store.let_read()
    stage.consumers.settle("reject", "c", [0, 1], None, lambda *_: None)
    let_run()
    stage.store.fail()
    stage.store.tell()
    stage.consumers.touch(stage.consumer)
    let_run()
    stage.store.commit()

    stage.crash()

    state = stage.consumer.state
    assert state.cursor == 0 or sorted(state.pending) == [0, 1, 2]


def test_a_dead_letter_is_not_pending_again_by_what_was_written_once_more(stage, clock):
    stage.done(stage.consumers.create, "c", "a", start="earliest", expired="dead")
    stage.done(stage.broker.publish_many, "a", [1, 2], ttl_s=1)
    clock.seconds += 1e9
    stage.call(stage.broker.subscribe, "a", consumer="c")
    while not stage.store.pending:
        stage.store.let_read()
    stage.store.fail()      # that they are dying
    stage.store.let_read()
    stage.store.tell()
    stage.consumers.touch(stage.consumer)
    let_run()
    while stage.store.pending or stage.store.reads:
        stage.store.let_read()
        stage.store.commit()

    stage.crash()

    assert stage.consumer.state.pending == {} or stage.consumer.dead.measure(stage.store) == 0
    assert stage.consumer.state.cursor == 0 or len(stage.consumer.state.pending) + stage.consumer.dead.count == 2


def test_the_cursor_does_not_pass_what_was_fetched_ahead_before_that_is_on_disk(stage, clock):
    stage.done(stage.broker.publish_many, "a", [1, 2])
    member = stage.join(max_in_flight=1)
    stage.call(stage.consumers.fetch, "c", offset=1)
    member.close()
    let_run()
    stage.store.fail()      # that it was fetched
    stage.call(stage.broker.subscribe, "a", consumer="c")
    stage.store.commit()

    stage.crash()

    state = stage.consumer.state
    assert state.cursor <= 1 or 1 in state.pending


def test_what_was_acknowledged_ahead_stays_so_over_a_snapshot_and_a_crash(stage):
    stage.done(stage.broker.publish, "a", 1)
    stage.done(stage.consumers.create, "c", "a", start="earliest")
    first, = stage.done(stage.consumers.fetch, "c", offset=0)
    stage.call(first.ack)
    stage.call(stage.consumers.fetch, "c", timeout_s=10)
    while stage.store.reads:
        stage.store.let_read()
    assert stage.consumer.state.cursor == 1     # it passes the message before the ack is on disk
    stage.store.settle()
    stage.done(stage.consumers._snapshots.round)

    stage.crash()

    assert stage.consumer.has_settled(0)


def test_what_a_snapshot_that_was_cut_off_has_left_is_not_pending_again(stage):
    stage.done(stage.broker.publish, "a", 1)
    delivery, = stage.join().take().messages()
    stage.call(stage.consumers._snapshots.round)
    stage.store.commit()        # its part, and nobody hears of it
    stage.crash()
    stage.done(stage.consumers.ack, "c", [(0, delivery.token)])
    stage.done(stage.consumers._snapshots.round)

    stage.crash()

    assert stage.consumer.state.pending == {}


def test_what_is_gone_and_could_not_be_written_is_written_a_little_later(stage, clock):
    stage.done(stage.broker.publish, "a", 1)
    stage.join().take()
    stage.consumer.removed(0, 1)
    let_run()
    stage.store.fail()
    stage.store.tell()
    assert stage.consumer.state.pending

    clock.seconds += 2
    stage.consumers.tick()
    let_run()
    stage.store.settle()

    assert stage.consumer.state.pending == {}


def test_what_is_written_while_a_consumer_is_changed_does_not_undo_that(stage):
    stage.done(stage.consumers.create, "c", "a")
    changing = stage.call(stage.consumers.update, "c", ack_wait_s=5)
    stage.consumer.tell_gap(Gap(0, 1, 1, "retention"))
    let_run()
    while not changing.ready():
        stage.store.settle()
    stage.store.settle()

    stage.crash()

    assert stage.consumer.options.ack_wait_s == 5


def test_a_change_that_cannot_be_written_is_none(stage):
    stage.done(stage.consumers.create, "c", "a")
    changing = stage.call(stage.consumers.update, "c", ack_wait_s=5)
    stage.store.fail()
    stage.store.tell()

    with pytest.raises(StoreFull):
        changing.get()
    assert stage.consumer.options.ack_wait_s == 30


def test_what_is_given_back_unseen_twice_is_answered_when_it_is_on_disk(stage):
    stage.done(stage.broker.publish, "a", 1)
    member = stage.join(max_deliveries=1)
    delivery, = member.take().messages()

    options = {"unseen": True, "member": member.id}
    calls = [stage.call(stage.consumers.nack, "c", [[0, delivery.token]], **options) for _ in range(2)]
    assert not any(call.ready() for call in calls)
    while not all(call.ready() for call in calls):
        stage.store.settle()
    stage.crash()

    assert [call.get() for call in calls] == [1, 1]
    assert [one["delivery"] for one in stage.done(stage.consumers.browse, "c")] == [0]


def test_who_leaves_is_given_nothing_more_also_if_the_call_that_says_so_fails(stage):
    stage.done(stage.broker.publish_many, "a", [1, 2])
    member = stage.join(max_in_flight=1)
    delivery, = member.take().messages()

    call = stage.call(stage.consumers.nack, "c", [[0, delivery.token]], unseen=True, member=member.id)
    stage.store.fail()
    stage.store.tell()
    let_run()
    with pytest.raises(StoreFull):
        call.get()
    assert stage.done(stage.consumers.ack, "c", [[0, delivery.token]]) == 1     # it has it still, and room for more

    assert member.take() is None


def test_who_leaves_is_not_given_what_was_on_its_way_when_that_cannot_be_taken_back(stage, clock):
    member = stage.join()
    stage.call(stage.broker.publish, "a", 1)
    stage.store.commit()
    stage.store.tell()
    let_run()       # it is being handed out

    call = stage.call(stage.consumers.nack, "c", [], unseen=True, member=member.id)
    stage.store.commit(1)
    stage.store.fail()
    stage.store.tell()
    stage.store.tell()
    let_run()
    with pytest.raises(StoreFull):
        call.get()
    assert member.take() is None
    member.end()
    heir = stage.join()
    clock.seconds += 1      # after a failure it is read again a second later
    stage.consumers.tick()
    let_run()
    stage.store.settle()

    assert [one.delivery for one in heir.take().messages()] == [1]


def test_what_is_extended_on_its_way_takes_up_no_room_when_its_hand_out_fails(stage, clock):
    stage.done(stage.broker.publish_many, "a", [1, 2])
    member = stage.join(max_in_flight=1, backoff_s=[])
    member.take()
    again = stage.call(stage.consumers.nack, "c", 0)
    stage.store.let_read()
    let_run()
    stage.store.fail()      # so neither is true: it is on its way a second time, and that it was given back
    extending = stage.call(stage.consumers.extend, "c", 0, 5)

    stage.store.settle()
    with pytest.raises(StoreFull):
        again.get()
    assert extending.get() == 1
    clock.seconds += 1
    stage.consumers.tick()
    let_run()
    stage.store.settle()

    assert member.in_flight == 1
    assert [one.payload for one in member.take().messages()] == [2]


def test_what_parks_after_a_failed_commit_is_not_lost_in_a_crash(stage, clock):
    for number in range(4):
        stage.done(stage.broker.publish, "a", number, key=None if number == 2 else "k")
    stage.done(stage.consumers.create, "c", "a", start="earliest", mode="key_ordered")
    stage.call(stage.broker.subscribe, None, consumer="c", max_in_flight=2)
    stage.store.let_read()      # 0 and 2 go out, and 1 waits for 0
    let_run()

    stage.store.fail()
    stage.store.tell()
    clock.seconds += 1
    stage.consumers.tick()      # all that is written again, and 3 waits for 0, too
    let_run()
    stage.store.settle()
    stage.crash()

    assert [one["offset"] for one in stage.done(stage.consumers.browse, "c")] == [0, 1, 2, 3]


def test_the_cursor_does_not_pass_a_hand_out_that_is_under_way_when_one_before_it_fails(stage, clock):
    for number in range(2):
        stage.done(stage.broker.publish, "a", number)
    stage.done(stage.consumers.create, "c", "a", start="earliest")
    stage.call(stage.consumers.fetch, "c", offset=1)
    stage.store.fail()
    stage.call(stage.consumers.fetch, "c", 1, timeout_s=1000)
    stage.store.let_read()      # 0 goes out
    let_run()

    stage.store.fail()
    stage.store.tell()          # of the first only
    clock.seconds += 1
    stage.consumers.tick()      # it is written again
    let_run()
    stage.store.commit()
    stage.crash()

    assert [one["offset"] for one in stage.done(stage.consumers.browse, "c")] == [0, 1]


def test_the_cursor_does_not_pass_a_hand_out_that_fails_after_one_before_it_was_written_again(stage, clock):
    stage.done(stage.broker.publish_many, "a", [0, 1])
    stage.done(stage.consumers.create, "c", "a", start="earliest")
    for _ in range(2):          # 0 and 1 go out, each with a change of its own that moves the cursor
        stage.call(stage.consumers.fetch, "c", 1, timeout_s=1000)
        stage.store.let_read()
        let_run()

    stage.store.fail(1)
    stage.store.tell()          # of the first only
    clock.seconds += 1
    stage.consumers.tick()      # it is written again
    let_run()
    stage.store.fail(1)         # the second
    stage.store.commit()        # what was written again
    stage.crash()

    assert [one["offset"] for one in stage.done(stage.consumers.browse, "c")] == [0, 1]


def test_what_was_rejected_is_not_held_any_more(disk):
    disk.broker.publish_many("a", [1, 2])
    for delivery in taken(disk.join()):
        delivery.reject()
        settle()

    disk.consumers._guard_now()

    assert disk.consumers._guards["c"].first >= 2


def test_what_has_expired_is_not_held_any_more(desk):
    desk.broker.publish("a", 1, ttl_s=1)
    desk.clock.seconds += 1e9
    member = desk.join()
    assert given(member) == []

    desk.consumers._guard_now()

    assert desk.consumers._guards["c"].first == 1


def test_what_has_expired_and_cannot_be_deleted_is_deleted_later(stage, clock, caplog, capfd):
    stage.done(stage.consumers.create, "c", "a", inactive_s=10)
    clock.seconds += 11
    stage.consumers.tick()
    let_run()
    stage.store.fail()
    stage.store.tell()
    assert "cannot be deleted" in caplog.text

    clock.seconds += 61
    stage.consumers.tick()
    let_run()
    stage.store.settle()

    assert stage.consumers.by_name == {}
    assert "Traceback" not in capfd.readouterr().err
