"""Consumers: all durable consumers of a broker; what callers, members and the lane use.

State is kept in memory and in the store's journal and records (see journal.py); the hub decides,
one transaction makes it true. Whatever is answered here is on disk.
"""

import logging
from functools import partial

import gevent
from gevent.event import AsyncResult
from gevent.lock import RLock

from ..errors import InvalidOption, ServerDraining, StaleDelivery, StoreClosed, UnknownConsumer, ZStreamPubError
from ..policy import Spill
from ..store import Append, Guard
from . import journal
from .clock import Clock
from .consumer import Consumer
from .dead import Burial, DeadLetters, Undertaker
from .describe import Describing
from .joining import Joining
from .letters import Letters
from .loading import load
from .rereading import Rereading
from .settling import VERBS, Settling
from .snapshot import Snapshots
from .steering import Steering
from .timing import Timing
from .writing import Writing

logger = logging.getLogger(__name__)

GUARD_S = 1.0


class Consumers(Describing, Joining, Letters, Steering):
    """Made by the broker. ``by_name`` has every :class:`Consumer`.

    ``on_acked`` is a list of functions: each is called on the hub with ``(name, runs)`` when messages were
    acknowledged and that is on disk, ``runs`` being a flat list ``[first, next, first, next, ...]``; they
    must not wait. :meth:`watch` is for a single offset. ``clock`` may be replaced before the first use.
    """

    clock = Clock()

    def __init__(self, broker):
        self.broker = broker
        self.store = broker.store
        self.settings = broker.settings
        self.by_name = {}
        self.on_acked = []
        self.acked_messages = 0
        self._watched = {}          # offset -> functions
        self._locks = {}            # name -> [RLock, how many use it]
        self._guard_timer = None
        self.draining = False
        self._closed = False
        self._writing = Writing(self)
        self._timing = Timing(self._look, lambda: self.clock)
        self._snapshots = Snapshots(self, self._writing)

    # --- settling --------------------------------------------------------------------------------

    def ack(self, name, deliveries, *, before=None):
        """Settle *deliveries*: they are done. Returns how many were settled by this call; it is on disk then.

        *deliveries*: an offset, or a list of offsets, ``[offset, token]`` and ``[first, next, token]``; *before*:
        everything below that offset that was delivered, too. What has the same token and is settled already
        is fine and not counted. Raises StaleDelivery for what was delivered again since, is settled or was
        never delivered, after all else is done; UnknownConsumer, InvalidOption, StoreError.
        """
        return self._settle_and_wait("ack", name, deliveries, {"before": before})

    def nack(self, name, deliveries, *, delay_s=None, reason=None):
        """Have *deliveries* delivered again after *delay_s* (None: as the backoff says). Raises like :meth:`ack`."""
        return self._settle_and_wait("nack", name, deliveries, {"delay_s": delay_s, "reason": reason})

    def reject(self, name, deliveries, *, reason=None):
        """Make dead letters of *deliveries* at once. Raises like :meth:`ack`."""
        return self._settle_and_wait("reject", name, deliveries, {"reason": reason})

    def extend(self, name, deliveries, seconds):
        """Give *deliveries* *seconds* more from now on. Raises like :meth:`ack`."""
        return self._settle_and_wait("extend", name, deliveries, {"seconds": seconds})

    def settle(self, verb, name, deliveries, options, reply):
        """Do one of the verbs above; never waits. ``reply(count, error)`` is called on the hub when it is on disk.

        *error* is None or a ZStreamPubError; with StaleDelivery, *count* says what was done all the same.
        """
        try:
            if verb not in VERBS:
                raise InvalidOption(f"The verbs are {', '.join(VERBS)}, not {verb!r:.60}.")
            consumer = self.find(name)
            consumer.used_at = self.clock.now()
            flush = self._writing.current
            call = Settling(consumer, flush).run(verb, deliveries, options or {})
        except Exception as error:
            reply(0, self.as_ours(error))
            return
        if call.burials:
            reply = self._after_burials(call, reply)
        elif call.before is not None:
            reply = partial(self._ack_on, name, call, reply)
        if call.earlier:
            reply = partial(_after_earlier, call.earlier, reply)
        if consumer.ops:
            self.touch(consumer)
            flush.replies.append((reply, call.count, call.error))
        elif call.earlier:
            last = max(call.earlier, key=lambda one: one.number)
            last.replies.append((reply, call.count, call.error))
        else:
            reply(call.count, call.error)

    def _ack_on(self, name, call, reply, count, error):
        """Acknowledge the rest of what an ack up to an offset has named."""
        if error is not None:
            reply(count, error)
            return
        self.settle("ack", name, [], {"before": call.before}, lambda more, error: reply(count + more, error))

    @staticmethod
    def _after_burials(call, reply):
        """Return the reply of *call* that waits for its burials, too."""
        left, outcome = call.burials + 1, [None, None]

        def one_less(error):
            nonlocal left
            left -= 1
            if outcome[1] is None or (error is not None and isinstance(outcome[1], StaleDelivery)):
                outcome[1] = error
            if not left:
                reply(*outcome)

        def written(count, error):
            outcome[0] = count
            one_less(error)
        call.buried = one_less
        return written

    def _settle_and_wait(self, verb, name, deliveries, given):
        self.broker.check_thread()
        answer = AsyncResult()
        self.settle(verb, name, deliveries, given, lambda count, error: answer.set((count, error)))
        count, error = answer.get()
        if error is not None:
            raise error
        return count

    def watch(self, offset, callback):
        """Call ``callback(name)`` on the hub for each consumer that acknowledges *offset*, once that is on disk."""
        self._watched.setdefault(offset, []).append(callback)

    def unwatch(self, offset, callback):
        """Undo :meth:`watch`."""
        callbacks = self._watched.get(offset, [])
        if callback in callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del self._watched[offset]

    def acked(self, consumer, runs):
        """Learn that *consumer* has acknowledged *runs*, on disk."""
        for first, next in zip(runs[::2], runs[1::2]):
            self.acked_messages += next - first
            if self._watched:
                seen = (range(first, next) if next - first < len(self._watched)
                        else [offset for offset in self._watched if first <= offset < next])
                for offset in seen:
                    for callback in tuple(self._watched.get(offset, ())):
                        self._call(callback, consumer.name)
        for callback in self.on_acked:
            self._call(callback, consumer.name, runs)

    def _call(self, callback, *arguments):
        try:
            callback(*arguments)
        except Exception as error:      # the callers's own must not tear the others
            self.report(error)

    # --- finding ---------------------------------------------------------------------------------------

    def find(self, name):
        """Return the Consumer called *name*, or raise UnknownConsumer."""
        consumer = self.by_name.get(name) if isinstance(name, str) else None
        if consumer is None:
            raise UnknownConsumer(f"There is no consumer {name!r:.120}. Create it by create_consumer, or join it with "
                                  "patterns.", consumer=name if isinstance(name, str) else None)
        return consumer

    def wanting(self, topic):
        """Return the names of the consumers that want *topic*."""
        return [consumer.name for consumer in self.by_name.values() if topic in consumer.wanted]

    # --- what consumers use ------------------------------------------------------------------------------

    @property
    def token(self):
        return self._writing.token

    @property
    def end(self):
        return self.broker.next

    def new_token(self):
        return self._writing.new_token()

    def touch(self, consumer):
        self._writing.touch(consumer)

    def watch_time(self, consumer, when):
        if not consumer.deleted:
            self._timing.watch(consumer, when)

    def spill(self):
        return Spill()

    def bury(self, consumer, lease, why, error, told=None, undo=None):
        consumer.undertaker.bury(Burial(consumer.state, lease, why, error, told, undo))

    def died(self, consumer, many):
        """Learn that *many* more dead letters are on disk; too many pause the consumer (may wait)."""
        dead = consumer.dead
        if dead.count is None:
            dead.measure(self.store)
        else:
            dead.count += many
        most = consumer.options.max_dead
        if dead.count >= most and consumer.paused is None:
            why = f"dead letters: {dead.count} are not settled and max_dead is {most}"
            logger.warning("consumer %s is paused: %s", consumer.name, why)
            self.set_paused(consumer, why)

    def left(self, consumer, member):
        """Learn that *member* has left."""
        self.broker.subscriptions.pop(member.id, None)
        if consumer.inactive_at is not None:
            self.watch_time(consumer, consumer.inactive_at)

    def forget_instead(self, consumer, runs):
        """Drop what replaced the payloads of *runs*."""
        for offset in [one for one in consumer.instead
                       if any(first <= one < next for first, next in zip(runs[::2], runs[1::2]))]:
            del consumer.instead[offset]
            self._writing.current.records[journal.instead_key(consumer.state.id, offset)] = None
        self._writing.schedule()

    def written(self, flush):
        """Learn that *flush* is on disk."""
        self._snapshots.look()
        self._guard_soon()

    def report(self, error):
        return self.broker.report(error)

    def as_ours(self, error):
        return error if isinstance(error, ZStreamPubError) else self.report(error)

    # --- time ------------------------------------------------------------------------------------------

    def tick(self):
        """Look at the clock now: deadlines, redeliveries. A timer does it at the right times."""
        self._timing.tick()

    def _look(self, consumer, now):
        inactive_at = consumer.inactive_at
        if inactive_at is not None and inactive_at <= now:
            self.expire(consumer)
            return None
        return consumer.look_at_time(now)

    # --- guards ------------------------------------------------------------------------------------------

    def guard(self):
        """Tell the store at once what it must not remove."""
        self._stop_guard_timer()
        self.store.guard([Guard(consumer.name, consumer.wanted, consumer.state.floor)
                          for consumer in self.by_name.values() if consumer.options.retention == "keep"])

    def _guard_soon(self):
        if self._guard_timer is None and not self._closed:
            self._guard_timer = gevent.get_hub().loop.timer(GUARD_S, ref=False)
            self._guard_timer.start(self._guard_now)

    def _guard_now(self):
        try:
            self.guard()
        except StoreClosed:
            pass        # or dead: then it removes nothing

    def _stop_guard_timer(self):
        timer, self._guard_timer = self._guard_timer, None
        if timer is not None:
            timer.stop()
            timer.close()

    def removed(self, removals):
        """Learn that retention or a trim has removed *removals*, ``(topic, first, next)`` (the store tells)."""
        highest = max(next for _, _, next in removals)
        for consumer in tuple(self.by_name.values()):
            state = consumer.state
            if not state.pending or (state.floor >= highest and not state.ahead):
                continue
            for topic, first, next in removals:
                if topic in consumer.wanted:
                    consumer.removed(first, next)

    # --- admin -------------------------------------------------------------------------------------------

    def locked(self, name):
        """Return a context in which nobody else creates, changes or deletes *name*; waits."""
        if not isinstance(name, str):
            raise InvalidOption(f"The name of a consumer is text, not {type(name).__name__}.", option="consumer")
        return _Locked(self._locks, name)

    def write_head(self, consumer, state=None, **changes):
        """Have the head of *consumer* written with the next flush."""
        self._writing.current.records[journal.head_key(consumer.name)] = self.pack_head(consumer, state, **changes)
        self._writing.schedule()

    def pack_head(self, consumer, state=None, **changes):
        state = state or consumer.state
        fields = {
            "name": consumer.name, "id": state.id, "patterns": list(consumer.wanted.patterns),
            "options": consumer.options.as_map(), "created": consumer.created_us, "cursor": state.saved,
            "trims": state.trims, "ahead": sorted(offset for offset in state.ahead if offset not in state.pending),
            "acked": state.acked, "redelivered": state.redelivered, "paused": consumer.paused, "part": state.part,
            "dead": consumer.dead.as_map(),
            "gaps": [[gap.first, gap.next, gap.count, gap.why] for gap in consumer.gaps],
        }
        return journal.pack_head({**fields, **changes})

    def forget_journal(self, journal_from):
        """Have the store drop the changes below that number."""
        self.broker.append_own(Append((), _ignore, journal_from=journal_from))

    def wait_for_disk(self, records=None):
        """Have *records* and whatever has changed written; wait; raise what kept it from the disk."""
        answer = AsyncResult()
        flush = self._writing.current
        flush.records.update(records or {})
        flush.replies.append((lambda _, error: answer.set(error), 0, None))
        self._writing.schedule()
        error = answer.get()
        if error is not None:
            raise error

    # --- beginning and ending -------------------------------------------------------------------------------

    def load(self):
        """Read what was written down (the broker calls this once, before anything else)."""
        load(self, self._writing)
        now = self.clock.now()
        for consumer in self.by_name.values():
            self.watch_time(consumer, now)
        if self.by_name:
            self.guard()

    def add(self, name, wanted, options, state, created_us):
        """File a new Consumer and return it."""
        consumer = Consumer(self, name, wanted, options, state, created_us)
        consumer.dead = DeadLetters(name)
        consumer.undertaker = Undertaker(consumer)
        consumer.rereading = Rereading(consumer)
        self.by_name[name] = consumer
        return consumer

    def drain(self):
        """End all members; what they settle is taken until :meth:`close`."""
        self.draining = True
        for consumer in tuple(self.by_name.values()):
            for member in tuple(consumer.members):
                member.end(ServerDraining("The server is shutting down. Nothing is lost: join again on the next one."))
            for taker in tuple(consumer.takers):
                taker.cancel()

    def close(self):
        """Hand the last changes to the store, which will be closed next."""
        self._closed = True
        self._stop_guard_timer()
        self._timing.close()
        self._writing.write()


class _Locked:
    def __init__(self, locks, name):
        self._locks = locks
        self._name = name

    def __enter__(self):
        entry = self._locks.setdefault(self._name, [RLock(), 0])
        entry[1] += 1
        try:
            entry[0].acquire()
        except BaseException:       # killed while it waited
            self._forget(entry)
            raise

    def __exit__(self, *_):
        entry = self._locks[self._name]
        entry[0].release()
        self._forget(entry)

    def _forget(self, entry):
        entry[1] -= 1
        if not entry[1]:
            del self._locks[self._name]


def _after_earlier(flushes, reply, count, error):
    """Reply what became of a call that depends on earlier *flushes*, too; they are through."""
    failed = next((flush.error for flush in flushes if flush.error is not None), None)
    reply(0 if failed else count, failed or error)


def _ignore(_):
    pass
