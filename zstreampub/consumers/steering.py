"""Steering: creating, changing, moving and deleting consumers. What is answered is on disk."""

import logging

import gevent
from gevent.event import Event

from ..errors import ConsumerDeleted, InvalidOption, LimitExceeded, ServerDraining, StoreClosed, StoreError
from . import journal
from .describe import Describing
from .handout import Notice
from .options import Options, check_name, check_same, check_settings, complete
from .state import ConsumerState

logger = logging.getLogger(__name__)

_RECORDS = 1_000
_AGAIN_S = 60.0     # what could not be deleted is tried again after this long


class Steering(Describing):
    """A room of :class:`~zstreampub.consumers.registry.Consumers`."""

    def create(self, name, patterns, *, start="new", **settings):
        """Create the consumer *name* of *patterns*, or find that it is there; return :meth:`describe`.

        *start* counts at its creation only. Raises ConsumerConflict if it is there with other settings,
        InvalidOption, InvalidTopic, LimitExceeded, OffsetOutOfRange.
        """
        self.find_or_create(name, patterns, start, settings)
        return self.describe(name)

    def find_or_create(self, name, patterns, start, settings):
        """Do :meth:`create`; return the Consumer. *patterns* None: raises UnknownConsumer if it is not there."""
        self.broker.check_thread()
        check_name(name)
        given = check_settings(settings, self.settings)
        wanted = None if patterns is None else self.broker.check_patterns(patterns)
        with self.locked(name):
            if name in self.by_name or wanted is None:
                consumer = self.find(name)
                check_same(name, consumer, None if wanted is None else wanted.patterns, given)
                return consumer
            return self._create(name, wanted, start, complete(given, self.settings))

    def _create(self, name, wanted, start, options):
        most = self.settings.max_consumers
        if len(self.by_name) >= most:
            raise LimitExceeded(f"There are {most} consumers already (max_consumers).", limit=most)
        if self.draining:
            raise ServerDraining("The server is shutting down; create the consumer on the next one.")
        where = self._find_start(start, wanted)
        state = ConsumerState(self.new_token(), *where)
        consumer = self.add(name, wanted, options, state, self.clock.wall_us())
        consumer.frozen = True
        try:
            self.guard(consumer)
            self.wait_for_disk({journal.head_key(name): self.pack_head(consumer)})
        except BaseException:
            self._forget(consumer)
            self.guard(consumer)
            raise
        consumer.prepared, consumer.frozen = True, False
        consumer.used_at = self.clock.now()
        if consumer.inactive_at is not None:
            self.watch_time(consumer, consumer.inactive_at)
        return consumer

    def _find_start(self, start, wanted):
        if start == "last":
            raise InvalidOption("A consumer starts at 'new', 'earliest', an offset, {'time': seconds} or {'last': n}.",
                                option="start")
        where = self.broker.starts.find("new" if start is None else start, wanted, None)
        return where["cursor"], where.get("trims", self.store.trim_mark() if where.get("live") else 0)

    def update(self, name, **settings):
        """Change settings of a consumer, all but its mode, and return :meth:`describe`; None stands for the default."""
        self.broker.check_thread()
        if "patterns" in settings or "mode" in settings or "start" in settings:
            raise InvalidOption("The patterns, the mode and the start of a consumer cannot be changed; create another.")
        given = check_settings(settings, self.settings)
        with self.locked(name):
            consumer = self.find(name)
            defaults = complete({}, self.settings).as_map()
            changed = {**consumer.options.as_map(), **{key: defaults[key] for key in settings}, **given}
            options = Options(**{**changed, "backoff_s": tuple(changed["backoff_s"])})
            was, consumer.options = consumer.options, options
            try:
                self.wait_for_disk({journal.head_key(name): self.pack_head(consumer)})
            except BaseException:
                consumer.options = was
                raise
            self.guard(consumer)
            self.touch(consumer)
        return self.describe(name)

    def pause(self, name):
        """Hand out nothing of a consumer until :meth:`resume`; return :meth:`describe`. Acks are taken."""
        self.broker.check_thread()
        with self.locked(name):
            self.set_paused(self.find(name), "by request")
        return self.describe(name)

    def resume(self, name):
        """Hand out again, also after too many dead letters; return :meth:`describe`."""
        self.broker.check_thread()
        with self.locked(name):
            self.set_paused(self.find(name), None)
        return self.describe(name)

    def set_paused(self, consumer, why):
        """Pause *consumer*, or (None) let it go on; waits for the disk."""
        was, consumer.paused = consumer.paused, why
        if why is not None:
            consumer.stop_reading()
        try:
            self.wait_for_disk({journal.head_key(consumer.name): self.pack_head(consumer)})
        except BaseException:
            consumer.paused = was
            self.touch(consumer)
            raise
        if why != was:
            consumer.tell(Notice(control="paused", why=why) if why is not None else Notice(control="resumed"))
        self.touch(consumer)

    def seek(self, name, where):
        """Move a consumer to *where*, which is as a ``start``; what is pending is dropped. Return :meth:`describe`."""
        self.broker.check_thread()
        with self.locked(name):
            consumer = self.find(name)
            found = self._find_start(where, consumer.wanted)
            consumer.frozen = True
            consumer.used_at = self.clock.now()
            try:
                self._move(consumer, ConsumerState(self.new_token(), *found))
            finally:
                consumer.frozen = False
                self.write_head(consumer)       # it may have changed meanwhile
                self.touch(consumer)
            self.guard(consumer)
        return self.describe(name)

    def _move(self, consumer, state):
        """Begin anew with *state*. Its changes are filed under another id, so those of before do not count."""
        self._wait_until_quiet(consumer)
        old = consumer.state
        state.acked, state.redelivered = old.acked, old.redelivered
        head = {journal.head_key(consumer.name): self.pack_head(consumer, state, gaps=[])}
        self.wait_for_disk({**head, **self._records_of(consumer)})
        consumer.begin_anew(state)

    def _wait_until_quiet(self, consumer):
        """Wait until no change of *consumer* is on its way; raise what keeps one from the disk: it would stay so."""
        while consumer.flushes or consumer.has_changes:
            if consumer.has_changes:
                self.touch(consumer)
                self.wait_for_disk()
            quiet = Event()
            consumer.when_quiet(quiet.set)
            quiet.wait()

    def _records_of(self, consumer):
        """Return what takes the parts and the replaced payloads of *consumer* away."""
        records = {}
        for prefix in (journal.parts_prefix(consumer.state.id), journal.instead_prefix(consumer.state.id)):
            after = None
            while rows := self.store.records(prefix, after, _RECORDS):
                after = rows[-1][0]
                records.update((key, None) for key, _ in rows)
        return records

    def delete(self, name):
        """Delete a consumer and all that is pending; return whether it was there.

        Its members end with ConsumerDeleted. Its dead letters stay in the log.
        """
        self.broker.check_thread()
        with self.locked(name):
            consumer = self.by_name.get(name) if isinstance(name, str) else None
            if consumer is None:
                return False
            consumer.frozen = True
            try:
                self.wait_for_disk({journal.head_key(name): None, **self._records_of(consumer)})
            except BaseException:
                consumer.frozen = False
                self.write_head(consumer)       # it may have changed meanwhile
                self.touch(consumer)
                raise
            self._forget(consumer)
            self.guard(consumer)
        return True

    def _forget(self, consumer):
        consumer.deleted = True
        if self.by_name.get(consumer.name) is consumer:
            del self.by_name[consumer.name]
        for member in tuple(consumer.members):
            member.end(ConsumerDeleted(f"Somebody deleted the consumer {consumer.name!r}."))
        for taker in tuple(consumer.takers):
            taker.cancel()
        consumer.stop_reading()

    def expire(self, consumer):
        """Delete *consumer*, which nobody has used for so long; never waits."""
        gevent.spawn(self._expire, consumer)

    def _expire(self, consumer):
        inactive_at = consumer.inactive_at
        if self.by_name.get(consumer.name) is consumer and inactive_at is not None and inactive_at <= self.clock.now():
            try:
                self.delete(consumer.name)
            except StoreError as error:
                if not isinstance(error, StoreClosed):
                    logger.warning("consumer %s has expired and cannot be deleted: %s", consumer.name, error)
                self.watch_time(consumer, self.clock.now() + _AGAIN_S)
        else:
            self.watch_time(consumer, self.clock.now())

    def look_at(self, consumer, now):
        """Do what is due of *consumer*; return when to look again, or None."""
        inactive_at = consumer.inactive_at
        if inactive_at is not None and inactive_at <= now:
            self.expire(consumer)
            return None
        return super().look_at(consumer, now)

    def died(self, consumer, many):
        """Learn that *many* more dead letters are on disk; too many pause the consumer (may wait)."""
        dead = consumer.dead
        if dead.count is None:
            dead.measure(self.store)
        else:
            dead.count += many
        most = consumer.options.max_dead
        if dead.count >= most and consumer.paused is None and dead.measure(self.store) >= most:
            with self.locked(consumer.name):        # not while it is moved or deleted
                if consumer.paused is None and not consumer.deleted:
                    why = f"dead letters: {dead.count} are not settled and max_dead is {most}"
                    logger.warning("consumer %s is paused: %s", consumer.name, why)
                    self.set_paused(consumer, why)
