"""A durable consumer against the book: whatever happens in between, every message is in exactly one place.

New, at one member, waiting to come again, acknowledged, a dead letter, or told as a gap; never two of
these, never none. Publishing, committing, failing, telling, reading, taking, calling and crashing are
steps of their own, in a generated order. The long search: ``tests/run -m campaign -k one_place``.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.consumer_unseen import UNSEEN
from tests.consumer_wanted import ACKED, FAR
from tests.hand_consumer import ConsumerStage

PATTERNS = ["a.>"]
TOPICS = st.sampled_from(["a.x", "a.x", "a.y", "b"])
KEYS = st.lists(st.sampled_from([None, "k", "k", "l"]), min_size=1, max_size=4)
NUMBER = st.integers(0, 30)
SOME = st.lists(NUMBER, min_size=1, max_size=4)
SECONDS = st.sampled_from([0.5, 1.0, 3.0, 11.0])
ACK_WAIT_S, GRACE_S = 10.0, 4.0


class Model(RuleBasedStateMachine):
    """Makes steps on the stage; all that must hold is in the book, and in ``check`` where everything is at rest."""

    mode = "shared"

    def __init__(self):
        super().__init__()
        self.stage = None
        self.paused = False     # by us
        self.picked = False     # a message by its offset

    @initialize(backoff_s=st.sampled_from([[], [2.0], [1.0, 5.0]]), max_deliveries=st.sampled_from([0, 1, 2, 4]),
                max_pending=st.sampled_from([2, 5, 100]), expired=st.sampled_from(["skip", "dead"]),
                max_dead=st.sampled_from([2, 100]), snapshot_bytes=st.sampled_from([1, 300, 1 << 20]))
    def begin(self, snapshot_bytes, **consumer):
        consumer.update(mode=self.mode, ack_wait_s=ACK_WAIT_S, jitter=0.5)
        self.stage = ConsumerStage(PATTERNS, consumer, snapshot_bytes, rejoin_grace_s=GRACE_S)

    def teardown(self):
        if self.stage is not None:
            try:
                self.finish()
            finally:
                self.stage.close()

    @invariant()
    def no_call_has_gone_wrong(self):
        if self.stage is not None:
            self.stage.look_at_calls()

    def worker(self, number):
        return self.stage.workers[number % len(self.stage.workers)]

    # --- the log and the disk ----------------------------------------------------------

    @rule(topic=TOPICS, keys=KEYS, ttl_s=st.sampled_from([None, None, None, 2.0]))
    def publish(self, topic, keys, ttl_s):
        self.stage.publish(topic, keys, ttl_s)

    @rule(most=st.sampled_from([None, 1]))
    def commit(self, most):
        self.stage.commit(most)

    @rule()
    def tell(self):
        self.stage.tell()

    @rule(most=st.sampled_from([None, 1]))
    def fail(self, most):
        self.stage.fail(most)

    @rule()
    def read(self):
        self.stage.let_read()

    @rule(seconds=SECONDS)
    def wait(self, seconds):
        self.stage.advance(seconds)

    @rule(back=st.integers(0, 6))
    def trim(self, back):
        self.stage.trim(max(self.stage.store.bounds()[1] - back, 0))

    @rule()
    def crash(self):
        self.stage.crash()

    @rule(reads_first=st.booleans())
    def fail_once_and_crash(self, reads_first):
        """Let the oldest commit fail, but those after it succeed; then lose all but the disk."""
        self.stage.fail(1)
        if reads_first:
            self.stage.let_read()
        self.stage.tell()
        self.stage.advance(1.0)     # what has failed is tried again
        self.stage.commit()
        self.stage.crash()

    # --- members -----------------------------------------------------------------------

    @precondition(lambda self: self.stage and len(self.stage.workers) < 4)
    @rule(max_in_flight=st.sampled_from([1, 2, 5]), claims=st.booleans())
    def join(self, max_in_flight, claims):
        """Join anew, or come back after a lost connection or a crash and claim all that nobody has."""
        held = [(one.offset, one.tokens[-1]) for one in self.stage.book.wanted.values()
                if claims and one.tokens and one.unsettled and one.holder not in self.stage.workers]
        self.stage.join(max_in_flight, [one for one in held if one not in self.stage.claimed])

    @precondition(lambda self: self.stage and self.stage.workers)
    @rule(number=NUMBER)
    def come_back(self, number):
        """Join by another connection while the server knows nothing yet of the loss of the first."""
        before = self.worker(number)
        self.stage.join(before.max_in_flight, [one for one in before.has if one not in self.stage.claimed], before)

    @precondition(lambda self: self.stage and self.stage.workers)
    @rule(number=NUMBER)
    def leave(self, number):
        self.worker(number).leave()

    @precondition(lambda self: self.stage and self.stage.workers)
    @rule(number=NUMBER)
    def take(self, number):
        self.worker(number).take()

    @rule(keys=KEYS, max_in_flight=st.sampled_from([1, 2, 5]))
    def begin_to_work(self, keys, max_in_flight):
        """Have somebody be given something: by single steps alone that takes most of an example."""
        self.stage.publish("a.x", keys)
        if not self.stage.workers:
            self.stage.join(max_in_flight)
        self.stage.flow()

    @rule()
    def give_up_fetching(self):
        self.stage.give_up_fetching()

    @precondition(lambda self: self.stage and len(self.stage.fetching) < 3)
    @rule(count=st.integers(1, 3))
    def fetch(self, count):
        self.stage.fetch(count)

    @precondition(lambda self: self.stage and self.stage.book.wanted)
    @rule(number=NUMBER)
    def fetch_one(self, number):
        offsets = list(self.stage.book.wanted)
        self.stage.fetch(1, offsets[number % len(offsets)])
        self.picked = True

    # --- calls -------------------------------------------------------------------------

    def some(self, number, which):
        """Return some of what a worker or a fetch has."""
        holders = self.stage.workers + self.stage.fetchers
        has = holders[number % len(holders)].has if holders else []
        return sorted({has[one % len(has)] for one in which}) if has else []

    @rule(number=NUMBER, which=SOME, verb=st.sampled_from(["ack", "ack", "nack", "reject"]), fenced=st.booleans())
    def settle(self, number, which, verb, fenced):
        if entries := self.some(number, which):
            self.stage.settle(verb, [(offset, token if fenced else None) for offset, token in entries])

    @rule(number=NUMBER, which=st.lists(NUMBER, max_size=4), is_named=st.booleans(),
          then=st.sampled_from(["go on", "again at once", "again later", "heir", "leave"]))
    def give_back_unseen(self, number, which, is_named, then):
        """As who is about to leave does; perhaps twice, as after an answer that was lost; or somebody else is there."""
        holders = self.stage.workers + self.stage.fetchers
        giver = holders[number % len(holders)] if holders else None
        leaver = giver if is_named and giver in self.stage.workers else None
        entries = self.some(number, which)
        if not entries and leaver is None:
            return
        self.stage.settle(UNSEEN, entries, leaver=leaver)
        if then in ("again later", "heir", "leave"):
            self.stage.flow()
        if then in ("again at once", "again later"):
            self.stage.settle(UNSEEN, entries, leaver=leaver)
        elif then != "go on":
            if then == "leave" and giver in self.stage.workers:
                giver.leave()
            self.join(5, False)
            self.rest()

    @precondition(lambda self: self.stage and self.stage.workers)
    @rule(number=NUMBER, keys=KEYS, so_far=st.sampled_from(["is on its way", "is at the server", "was taken in part"]))
    def leave_what_is_on_its_way(self, number, keys, so_far):
        """Say that somebody leaves who is just being given something: others are to get what it has not taken."""
        self.stage.publish("a.x", keys)
        self.stage.publish("a.y", [None])
        for _ in range(1 + (so_far != "is on its way")):
            self.stage.commit()
            self.stage.tell()
        if so_far == "was taken in part":
            self.worker(number).take()
        self.stage.settle(UNSEEN, [], leaver=self.worker(number))
        self.join(5, False)
        self.rest()

    @rule(number=NUMBER, which=SOME, seconds=SECONDS, verb=st.sampled_from(["nack", "extend"]))
    def delay(self, number, which, seconds, verb):
        if entries := self.some(number, which):
            self.stage.settle(verb, entries, seconds)

    @rule(which=SOME, verb=st.sampled_from(["ack", "nack", "reject", "extend", UNSEEN]))
    def settle_what_was_once_given(self, which, verb):
        """By any token ever seen, also by one whose time is over."""
        given = [(one.offset, token) for one in self.stage.book.wanted.values() for token in one.of_old + one.tokens]
        chosen = dict(given[number % len(given)] for number in which) if given else {}
        if chosen:
            self.stage.settle(verb, sorted(chosen.items()), 5.0 if verb == "extend" else None)

    @precondition(lambda self: self.stage and self.stage.book.wanted)
    @rule(which=SOME, verb=st.sampled_from(["ack", "nack", "reject", "extend"]))
    def settle_by_offset_alone(self, which, verb):
        """Whatever was given or not, also what is on its way to a member."""
        offsets = list(self.stage.book.wanted)
        chosen = sorted({offsets[number % len(offsets)] for number in which})
        self.stage.settle(verb, [(offset, None) for offset in chosen], 5.0 if verb == "extend" else None)

    @rule(offset=NUMBER)
    def ack_before(self, offset):
        self.stage.ack_before(offset)

    # --- steering ----------------------------------------------------------------------

    @rule()
    def pause(self):
        self.stage.pause()
        self.paused = True

    @rule()
    def resume(self):
        self.stage.resume()
        self.paused = False

    @rule(where=st.one_of(st.sampled_from(["new", "earliest"]), st.floats(0, 1)))
    def seek(self, where):
        if isinstance(where, float):
            where = round(where * self.stage.broker.next)
        self.stage.seek(where)

    @precondition(lambda self: self.stage and self.stage.book.letters)
    @rule(which=st.one_of(st.none(), SOME), verb=st.sampled_from(["redrive", "purge"]))
    def settle_letters(self, which, verb):
        letters = list(self.stage.book.letters)
        offsets = None if which is None else sorted({letters[number % len(letters)] for number in which})
        getattr(self.stage, verb)(offsets)

    # --- at rest -----------------------------------------------------------------------

    @rule()
    def rest(self):
        self.stage.flow()
        self.check()

    def check(self):
        """Everything has been done that could be done: the consumer says what the book says."""
        book, said = self.stage.book, self.stage.describe()
        assert said["paused"] or not self.paused, "it goes on by itself"
        book.paused = bool(said["paused"])
        assert book.paused or not book.must_be_out(), f"nobody was given {book.must_be_out()}"
        assert book.cursor <= said["cursor"], f"the cursor was at {book.cursor}: {said}"
        assert book.floor <= said["floor"] <= said["cursor"], f"the floor was at {book.floor}: {said}"
        book.cursor, book.floor = said["cursor"], said["floor"]
        assert said["pending"] == said["in_flight"] + said["waiting"], said
        # What makes room and then is not stored comes back on top of what has filled the room; and who fetches a
        # message by its offset gets it in any case.
        assert said["pending"] <= book.settings["max_pending"] or book.patient_until > -FAR or self.picked, said
        assert said["dead"] == len(book.letters), f"{said['dead']} letters, not {book.letters}"
        self.check_places(said)

    def check_places(self, said):
        """Each message that is not settled is listed, and no other."""
        book, listed = self.stage.book, {one["offset"]: one for one in self.stage.browse()}
        for offset, one in book.wanted.items():
            assert one.unsettled or offset not in listed or one.told, f"settled, and yet listed: {one} {listed[offset]}"
            assert offset in listed or not one.unsettled or one.unsure or one.is_excused(book.now), f"nowhere: {one}"
            if offset not in listed and one.unsure and not one.is_excused(book.now):
                one.settle(ACKED)
        lag = said["lag"]["messages"]
        assert lag == len(listed), f"{lag} messages behind, and listed are {sorted(listed)}"

    def finish(self):
        """Let one good member do all that is left; then everything is settled."""
        stage, book = self.stage, self.stage.book
        stage.give_up_fetching()
        while stage.workers:
            stage.workers[-1].leave()
        stage.flow()
        stage.look_at_calls()
        for worker in stage.workers[:]:     # whose join was on its way
            worker.leave()
        stage.join(1000)
        for _ in range(6):      # what waits longest waits for two leases and two backoffs
            stage.flow()
            while self.go_on():     # dead letters may pause it again and again
                stage.flow()
            stage.advance(ACK_WAIT_S)
        self.paused = False
        self.check()
        left = [one for one in book.wanted.values() if one.unsettled and not one.told and not one.unsure]
        assert not left, f"never settled: {left}"
        said = stage.describe()
        assert said["pending"] == said["lag"]["messages"] == 0, said

    def go_on(self):
        """Purge what pauses it, or acknowledge what somebody has; return whether there was something."""
        stage = self.stage
        if stage.describe()["paused"]:
            stage.purge(None)
            stage.resume()
        elif has := [entry for worker in stage.workers for entry in worker.has]:
            stage.settle("ack", has)
        else:
            return False
        return True


class Exclusive(Model):
    mode = "exclusive"


class KeyOrdered(Model):
    mode = "key_ordered"


MODELS = [Model, Exclusive, KeyOrdered]


def play(model, max_examples, steps):
    run_state_machine_as_test(model, settings=settings(
        max_examples=max_examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)))


@pytest.mark.parametrize("model", MODELS)
def test_every_message_is_in_exactly_one_place(model):
    play(model, max_examples=60, steps=40)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", MODELS)
def test_every_message_is_in_exactly_one_place_in_a_long_search(model):
    play(model, max_examples=4000, steps=80)
