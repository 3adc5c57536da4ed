"""Looking: the verbs of a store in LMDB that read, each in a reader thread.

The same whether this process writes the log or another does; whoever keeps the state up to date is the difference.
"""

import os

import gevent
from gevent.threadpool import ThreadPool

from ..disk.snapshots import READ_THREADS
from ..errors import StoreClosed
from ..store import Store
from ..threads.pool import in_pool
from . import measuring, reading
from .journal import read_records

MESSAGES_PER_READ = 500     # single messages looked up in one transaction
NEWEST_TRIES = 3


class Looking(Store):
    """Base of the stores in LMDB: *environment* is where the log is, *state* knows its ends and topics."""

    def __init__(self, environment, state):
        self._environment = environment
        self._state = state
        self.epoch = state.epoch
        self._pid = os.getpid()
        self._closing = None
        self._readers = ThreadPool(READ_THREADS, hub=gevent.get_hub())

    def bounds(self):
        return self._state.first, self._state.end

    def trim_mark(self):
        return self._state.mark

    def read(self, cursor, wanted, next, max_messages, max_bytes, trims):
        next = self._settled(next)

        def work():
            choice = reading.Choice(self._state, wanted)    # before the snapshot
            return self._environment.read(
                reading.read, self._state, choice, cursor, wanted, next, max_messages, max_bytes, trims)
        return self._in_thread(work)

    def get(self, offset):
        if not 0 <= offset < self._state.end:
            self._check_open()
            return None
        self._settled(offset + 1)
        return self._read(reading.message_at, self._state, offset)

    def last(self, topic, key=None):
        found = self._state.topics.by_name.get(topic)
        if found is None or not found.messages:
            self._check_open()
            return None
        while True:
            sought = self._state.steady(lambda: reading.Sought(self._state, found, key))
            self._settled(sought.next)
            batch, mark = self._read(reading.last, self._state, sought)
            if batch is not None or mark <= sought.mark:    # else it has been removed in between
                return batch

    def newest(self, wanted, next):
        for _ in range(NEWEST_TRIES):
            mark = self._state.mark
            next = self._settled(next)
            batches, complete = self._newest(wanted, next)
            if complete or mark == self._state.mark:
                break           # else one of them was removed in between, for there is a newer one
        return batches

    def _newest(self, wanted, next):
        choice, offsets, behind = self._in_thread(self._newest_offsets, wanted, next)
        if behind:
            offsets += self._read(reading.newest_below, choice, behind, next)
        offsets.sort()
        batches = []
        for at in range(0, len(offsets), MESSAGES_PER_READ):    # a turn for each, see offset_of_last
            batches += self._read(reading.messages_at, self._state, offsets[at:at + MESSAGES_PER_READ])
        return batches, len(batches) == len(offsets)

    def _newest_offsets(self, wanted, next):
        choice = reading.Choice(self._state, wanted)
        offsets, behind = [], set()
        for topic in choice.selected:
            if topic.messages and topic.trimmed_next < topic.next <= next:
                offsets.append(topic.next - 1)
            elif topic.messages and topic.first < next:
                behind.add(topic.id)
        return choice, offsets, behind

    def offset_at(self, time_us):
        return self._read(reading.offset_at, self._settled(), time_us)

    def offset_of_last(self, wanted, count):
        choice = self._in_thread(reading.Choice, self._state, wanted)
        self._settled(choice.end)
        offset = before = choice.end
        while count > 0 and before:     # a turn for each step, for others wait for the threads as well
            found, count, before = self._read(reading.count_back, choice, before, count)
            offset = offset if found is None else found
        return offset

    def topics(self, wanted):
        return self._in_thread(self._state.topics.maps, wanted)

    def measure(self, wanted, first, next):
        next = self._settled(next)
        count = self._in_thread(measuring.Measuring, self._state, wanted, first, next)
        while not count.done:       # a turn for each step, see offset_of_last
            self._read(count.step)
        return count.measure()

    def records(self, prefix, after=None, most=1000):
        return self._read(read_records, prefix, after, most)

    def _settled(self, next=None):
        """Return *next*, or the end of the log as it is now if that is less, once LMDB has everything below it.

        Nothing else is seen by who reads, though the state may know of more.
        """
        end = self._state.end
        return end if next is None else min(next, end)

    # --- threads -------------------------------------------------------------------

    def _read(self, work, *arguments):
        return self._in_thread(self._environment.read, work, *arguments)

    def _in_thread(self, function, *arguments):
        self._check_open()
        return in_pool(self._readers, function, *arguments)

    def _check_open(self):
        if self._pid != os.getpid():
            raise StoreClosed("The store was opened by another process and is of no use after a fork. "
                              "Open it in the process that uses it.")
        if self._closing is not None:
            raise StoreClosed("The store is closed.")
