"""Answering: the verbs by which members settle, and who is told of it. What is answered is on disk."""

from functools import partial

from gevent.event import AsyncResult

from ..errors import InvalidOption, StaleDelivery
from .core import Core
from .settling import VERBS, Settling


class Answering(Core):
    """A room of :class:`~zstreampub.consumers.registry.Consumers`."""

    # --- settling --------------------------------------------------------------------------------

    def ack(self, name, deliveries, *, before=None):
        """Settle *deliveries*: they are done. Returns how many were settled by this call; it is on disk then.

        *deliveries*: an offset, or a list of offsets, ``[offset, token]`` and ``[first, next, token]``; *before*:
        everything below that offset that was delivered, too. What has the same token and is settled already
        is fine and not counted. Raises StaleDelivery for what was delivered again since, is settled or was
        never delivered, after all else is done; UnknownConsumer, InvalidOption, StoreError.
        """
        return self._settle_and_wait("ack", name, deliveries, {"before": before})

    def nack(self, name, deliveries, *, delay_s=None, reason=None, unseen=False, member=None):
        """Have *deliveries* delivered again after *delay_s* (None: as the backoff says). Raises like :meth:`ack`.

        *unseen*: nobody has looked at them, so they come again at once, and this delivery does not count. *member*, the
        id of one that is about to leave: it is given nothing more, and what it has not taken comes again, too.
        """
        options = {"delay_s": delay_s, "reason": reason, "unseen": unseen, "member": member}
        return self._settle_and_wait("nack", name, deliveries, options)

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
        if consumer.has_changes:
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


def _after_earlier(flushes, reply, count, error):
    """Reply what became of a call that depends on earlier *flushes*, too; they are through."""
    failed = next((flush.error for flush in flushes if flush.error is not None), None)
    reply(0 if failed else count, failed or error)
