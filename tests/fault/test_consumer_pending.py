"""Much is pending, at one consumer and at many: what it costs, and that a kill -9 changes no number.

Nothing is asserted of time. Memory is what the server has for itself, work is what it gives the system to be
written. The bounds are what docs/operations.rst says, and a quarter more.
"""

import random
import time
from typing import NamedTuple

import lmdb
import pytest

from tests.holding import Holding
from tests.processes import ServerProcess, client
from zstreampub.disk.journal import BLOCK_BYTES, FILE_BYTES
from zstreampub.stores.writer import FOLD_S

BATCH = 1_000
MEMBERS = 10                # of the consumer that holds much
HELD = 100                  # by the member of each of the many consumers
ACKS = 400                  # one by one
FOLDER = "folder"           # a consumer whose pausing is no note: LMDB takes it, and what was noted by then
CALLS = 64                  # that wait for their answers, where each message is given back alone
FOREVER_S = 100_000

MESSAGE_BYTES = 120         # pending, handed out with others
SINGLE_BYTES = 450          # pending, and handed out alone
BACK_BYTES = 200            # pending, and given back by a call of its own, CALLS of them at a time
CONSUMER_BYTES = 38_000     # with a member that holds HELD messages
CHANCE_BYTES = 4 << 20      # more or less, however much is pending
NOTE_BYTES = 80             # written for an ack that is alone in its commit: a note
FOLD_BYTES = 27_000         # written where LMDB takes as many of them as their file has room for
MORE_WORK = 1.25


class Size(NamedTuple):
    """How many messages each topic has, all of them pending; and how many consumers there are besides."""

    few: int
    much: int
    consumers: int
    single: int
    back: int


class Work(NamedTuple):
    """What *acks*, each alone in its commit, have cost: bytes written, commits of LMDB among them, and time."""

    acks: int
    written: int
    folds: int
    seconds: float

    def __str__(self):
        return f"{self.written / self.acks:.0f} ({self.folds} of {self.acks} commits were LMDB's)"

    def check(self):
        """An ack is a note, and LMDB takes them when their file is full or nothing has come for a while: no oftener."""
        # And one where the guard of what retention may remove has moved: it may rely on what is noted.
        most_folds = self.acks * BLOCK_BYTES // FILE_BYTES + self.seconds / FOLD_S + 1
        assert self.folds <= most_folds
        assert self.written < MORE_WORK * (self.acks * NOTE_BYTES + self.folds * FOLD_BYTES)


class Play:
    """A server on which all is published; the consumers are made one after the other."""

    def __init__(self, folder, size):
        self.size = size
        self.each = [f"each{number}" for number in range(size.consumers)]
        self.acked: dict = {}       # consumer -> offsets
        self.server = ServerProcess(folder, rejoin_grace_s=1.0)
        topics = {"few": size.few, "much": size.much, "single": size.single, "back": size.back, "each": HELD}
        with client(self.server) as publisher:
            publisher.create_consumer(FOLDER, "nobody.publishes", {})
            for topic, messages in topics.items():
                for first in range(0, messages, BATCH):
                    publisher.publish_many(topic, [b"x" * 100] * min(BATCH, messages - first))

    def hold(self, holding, consumers, topic, messages, members=1):
        """Make *consumers*, have *members* of each hold all *messages* of *topic*; return what that costs in bytes."""
        before = self.server.census()["rss"]
        self.create(holding, consumers, topic, messages)
        self.join(holding, consumers, messages, members)
        return self.server.census()["rss"] - before

    @staticmethod
    def create(holding, consumers, topic, messages):
        options = {"start": "earliest", "ack_wait_s": FOREVER_S, "max_pending": messages, "max_deliveries": 0}
        for consumer in consumers:
            holding.call("create_consumer", consumer, topic, options)

    @staticmethod
    def join(holding, consumers, messages, members=1, wanted=None):
        for consumer in consumers:
            for _ in range(members):
                holding.join(consumer, messages // members)
        holding.wait(dict.fromkeys(consumers, messages) if wanted is None else wanted)

    def ack(self, holding, consumers, messages):
        """Acknowledge *messages* of each, from anywhere, one by one; return the Work."""
        holding.call("pause", FOLDER)
        began, before, folds = time.monotonic(), self.server.written(), self.lmdb_commits()
        for consumer in consumers:
            offsets = random.Random(1).sample(sorted(holding.given[consumer]), messages)
            holding.settle("ack", consumer, offsets)
            self.acked[consumer] = set(offsets)
        return Work(messages * len(consumers), self.server.written() - before, self.lmdb_commits() - folds,
                    time.monotonic() - began)

    def lmdb_commits(self):
        """Return how many LMDB has made."""
        with lmdb.open(str(self.server.directory / "store"), readonly=True, lock=False) as environment:
            return environment.info()["last_txnid"]

    def give_back(self, holding):
        """Give all of "back" back, for later, each by a call of its own; return what that costs in bytes."""
        before = self.server.census()["rss"]
        holding.settle("nack", "back", sorted(holding.given["back"]), {"delay_s": FOREVER_S}, CALLS)
        return self.server.census()["rss"] - before

    def fetch(self, holding):
        """Fetch all of "single", each alone; return what that costs in bytes."""
        before = self.server.census()["rss"]
        self.create(holding, ["single"], "single", self.size.single)
        holding.fetch("single", self.size.single, CALLS)
        return self.server.census()["rss"] - before

    def numbers(self):
        """Return what is to be the same after a crash, by consumer."""
        with client(self.server) as asking:
            return {name: {key: found[key] for key in ("pending", "acked", "cursor", "floor", "dead")}
                    for name in ("few", "much", "single", "back", *self.each[:20]) for found in [asking.consumer(name)]}

    def pending(self):
        with client(self.server) as asking:
            return asking.stats()["consumers"]["pending"]

    def crash(self):
        self.server.kill()
        self.server = self.server.again()


def _holds(folder, size):
    play = Play(folder, size)
    try:
        with Holding(play.server) as holding:
            most_bytes = _fill(play, holding)
            before = play.numbers(), play.pending()
            play.crash()
        assert (play.numbers(), play.pending()) == before
        assert play.server.census()["rss"] < most_bytes
        with Holding(play.server) as later:
            _comes_once_more(play, holding.given, later)
    finally:
        play.server.kill()


def _fill(play, holding):
    """Have everything pending, find what it costs, and return how much memory the server may take for it."""
    size, before = play.size, play.server.census()["rss"]
    play.hold(holding, ["few"], "few", size.few)
    few = play.ack(holding, ["few"], ACKS)
    each = play.hold(holding, play.each, "each", HELD)
    much = play.hold(holding, ["much"], "much", size.much, MEMBERS)
    pending = play.pending()
    many = play.ack(holding, ["much"], ACKS)        # before so much has changed that a snapshot comes between
    small = play.ack(holding, play.each[:ACKS], ACKS // len(play.each[:ACKS]))
    single = play.fetch(holding)
    back = play.hold(holding, ["back"], "back", size.back) + play.give_back(holding)
    print(f"\n{size}: {much / size.much:.0f} bytes for a message, {single / size.single:.0f} for one handed out alone, "
          f"{back / size.back:.0f} for one given back alone, {each / size.consumers:.0f} for a consumer with {HELD}. "
          f"Bytes written for an ack: {few} with {size.few} pending; with {pending}: {many}; {small} for small ones.")
    most = (MESSAGE_BYTES * size.much, SINGLE_BYTES * size.single, BACK_BYTES * size.back,
            CONSUMER_BYTES * size.consumers)
    for taken, may in zip((much, single, back, each), most):
        assert taken < may + CHANCE_BYTES
    for work in (few, many, small):     # the same bound, however much is pending
        work.check()
    return before + sum(most) + 4 * CHANCE_BYTES


def _comes_once_more(play, given, later):
    """Each message that is not settled comes as delivery 2, the others not at all, what waits for its time waits."""
    size, wanted = play.size, {name: offsets.keys() - play.acked.get(name, set()) for name, offsets in given.items()}
    del wanted["back"]
    for consumers, messages, members in ((["few"], size.few, 1), (play.each, HELD, 1), (["much"], size.much, MEMBERS),
                                         (["single"], size.single, 1), (["back"], size.back, 1)):
        play.join(later, consumers, messages, members, {})
    later.wait({name: len(offsets) for name, offsets in wanted.items()})
    assert later.came == {name: len(offsets) for name, offsets in wanted.items()}
    for name, offsets in wanted.items():
        assert later.given[name].keys() == offsets
        assert {delivery for delivery, _ in later.given[name].values()} == {2}


def test_numbers_survive_a_kill_and_work_does_not_grow_with_what_is_pending(tmp_path):
    _holds(tmp_path, Size(few=1_000, much=20_000, consumers=50, single=2_000, back=5_000))


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_numbers_survive_a_kill_with_a_million_messages_pending_and_a_thousand_consumers(tmp_path):
    _holds(tmp_path, Size(few=10_000, much=1_000_000, consumers=1_000, single=50_000, back=100_000))
