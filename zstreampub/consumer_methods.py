"""The methods of durable consumers that a zerorpc client can call: settle, look, steer.

A room of the :class:`~zstreampub.service.Service`. A member gets its messages by ``subscribe`` with
the option ``consumer``; what it has worked on it settles here, also over another connection.
"""

from typing import Any

from .checks import check_options, within
from .described import described
from .errors import InvalidOption
from .steering import CREATE_OPTIONS, UPDATE_OPTIONS, given, parse_settling
from .wire import pack

_MOST_LISTED = 1_000
_LIST_BYTES = 4 << 20       # of one answer: packing it holds the hub
_LIST_FIRST = 16            # messages whose size says how many may come with them


class ConsumerMethods:
    """What a Service can do with the consumers of its broker."""

    _broker: Any            # the service sets it

    # --- settling ---------------------------------------------------------------------------

    @described
    def ack(self, consumer, deliveries, options=None):
        """Acknowledge deliveries: they are done and never come again; returns how many. It is on disk then.

        deliveries: an offset, or a list of offsets, [offset, token] and [first, next, token].
        options: before (an offset: everything that was delivered below it, too).
        """
        return self._settle("ack", consumer, deliveries, options)

    @described
    def nack(self, consumer, deliveries, options=None):
        """Give deliveries back, to be delivered again later; returns how many.

        options: delay_s (without it the consumer's backoff decides), reason (text), unseen (true: nobody has looked at
        them, so this delivery does not count), member (with unseen: the id of a member that is about to leave and is
        to be given nothing more).
        """
        return self._settle("nack", consumer, deliveries, options)

    @described
    def reject(self, consumer, deliveries, options=None):
        """Make dead letters of deliveries: they are not tried again; returns how many.

        options: reason (text).
        """
        return self._settle("reject", consumer, deliveries, options)

    @described
    def extend(self, consumer, deliveries, seconds):
        """Keep deliveries for so many seconds from now, as the work takes longer; returns how many."""
        return self._settle("extend", consumer, deliveries, seconds)

    def _settle(self, verb, *args):
        consumer, deliveries, options = parse_settling(verb, args)
        return getattr(self._broker.consumers, verb)(consumer, deliveries, **options)

    # --- getting without a stream -----------------------------------------------------------

    @described
    def fetch(self, consumer, options=None):
        """Take messages of a consumer without a stream; returns a list, each with delivery and token.

        options: count (1), timeout_s (0: do not wait), offset (that very message).
        """
        found = self._broker.consumers.fetch_handouts(consumer, **given(options, ("count", "timeout_s", "offset")))
        return [{**fields, "delivery": handout.delivery, "token": handout.token}
                for handout in found for fields in handout.batch.maps()]

    @described
    def peek(self, consumer):
        """Return the message that would be delivered next, or nil; nothing is delivered."""
        return self._broker.consumers.peek(consumer)

    @described
    def browse(self, consumer, options=None):
        """List what a consumer has not settled, with state: waiting, in_flight or new; nothing is delivered.

        options: first (an offset), limit (100).
        """
        return _listed(self._broker.consumers.browse, consumer, options)

    @described
    def replace(self, consumer, offset, payload):
        """Give a consumer another payload for a message that nobody works on now."""
        return self._broker.consumers.replace(consumer, offset, payload)

    # --- looking and steering ---------------------------------------------------------------

    @described
    def consumers(self):
        """List the durable consumers: settings, members, pending, dead, lag."""
        return self._broker.consumers.list()

    @described
    def consumer(self, name):
        """Return one consumer: settings, members, pending, dead, lag."""
        return self._broker.consumers.describe(name)

    @described
    def create_consumer(self, name, patterns, options=None):
        """Create a durable consumer, or find that it is there with these settings; returns it.

        options: start, mode, ack_wait_s, backoff_s, jitter, max_deliveries, max_pending, retention,
        expired, max_dead, inactive_s.
        """
        return self._broker.consumers.create(name, patterns, **given(options, CREATE_OPTIONS))

    @described
    def update_consumer(self, name, options):
        """Change settings of a consumer; returns it. Patterns, mode and start stay.

        options: ack_wait_s, backoff_s, jitter, max_deliveries, max_pending, retention, expired,
        max_dead, inactive_s.
        """
        return self._broker.consumers.update(name, **check_options(options, UPDATE_OPTIONS))

    @described
    def delete_consumer(self, name):
        """Forget a consumer and all that it has not settled; returns whether there was one."""
        return self._broker.consumers.delete(name)

    @described
    def seek(self, consumer, where):
        """Move a consumer to an offset, a time, earliest or new; what is pending is dropped. Returns it."""
        if where is None:       # more likely a mistake than a wish, and it would drop what is pending
            raise InvalidOption("where is an offset, 'earliest', 'new', {'time': seconds} or {'last': n}, and not nil.",
                                option="where")
        return self._broker.consumers.seek(consumer, where)

    @described
    def pause(self, consumer):
        """Deliver nothing more of a consumer until resume; returns it. Acknowledging goes on."""
        return self._broker.consumers.pause(consumer)

    @described
    def resume(self, consumer):
        """Deliver again, also after too many dead letters have paused the consumer; returns it."""
        return self._broker.consumers.resume(consumer)

    # --- dead letters -----------------------------------------------------------------------

    @described
    def dead(self, consumer, options=None):
        """List the dead letters of a consumer, oldest first.

        options: first (an offset), limit (100).
        """
        return _listed(self._broker.consumers.dead, consumer, options)

    @described
    def redrive(self, consumer, options=None):
        """Publish dead letters once more, to where they came from; returns how many.

        options: offsets (of the dead letters; without them all), topic (another one to publish to).
        """
        return self._broker.consumers.redrive(consumer, **given(options, ("offsets", "topic")))

    @described
    def purge(self, consumer, options=None):
        """Forget dead letters of a consumer; returns how many.

        options: offsets (of the dead letters; without them all).
        """
        return self._broker.consumers.purge(consumer, **given(options, ("offsets",)))

    @described
    def clear_acked(self, consumer, options=None):
        """Remove from the log what a consumer has acknowledged; returns how many messages.

        options: keep_latest (1000), max_delete (1000).
        """
        return self._broker.consumers.clear_acked(consumer, **given(options, ("keep_latest", "max_delete")))


def _listed(look, consumer, options):
    """Return a list of *look*'s messages; it ends before ``limit`` where the answer has become large."""
    options = given(options, ("first", "limit"))
    limit = within("limit", options.get("limit"), 100, 1, _MOST_LISTED)
    first, found, size = options.get("first"), [], 0
    share = _LIST_FIRST
    while size < _LIST_BYTES and len(found) < limit:
        share = min(share, limit - len(found))
        some = look(consumer, first=first, limit=share)
        found += some
        if len(some) < share:
            break
        sizes = [len(pack(one)) for one in some]
        size += sum(sizes)
        first = some[-1]["offset"] + 1
        share = max(1, (_LIST_BYTES - size) // max(sizes))
    return found
