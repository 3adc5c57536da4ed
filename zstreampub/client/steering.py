"""The client's calls about durable consumers: see, steer, settle, and what became dead letters.

Each method is the server's of the same name, see docs/protocol.rst. *deliveries* is an
offset, or a list of offsets, ``(offset, token)`` and ``(first, next, token)``; without its token an
offset counts for whatever delivery of it is the newest.
"""


class Steering:
    """What :class:`Client` can do with consumers besides ``consume`` and ``fetch``."""

    def call(self, method, *args, timeout_s=None):
        """Call a method of the service."""
        raise NotImplementedError

    # --- seeing --------------------------------------------------------------------------

    def consumers(self):
        """Return a map for each consumer."""
        return self.call("consumers")

    def consumer(self, name):
        """Return a map about the consumer *name*: members, pending, lag, what is dead. Raises UnknownConsumer."""
        return self.call("consumer", name)

    def peek(self, consumer):
        """Return the map of the message that would be handed out next, or None."""
        return self.call("peek", consumer)

    def browse(self, consumer, *, first=None, limit=100):
        """Return maps of what is not settled, from offset *first* on, each with its ``state`` and ``delivery``."""
        return self.call("browse", consumer, _given(first=first, limit=limit))

    # --- steering ------------------------------------------------------------------------

    def create_consumer(self, name, patterns, **settings):
        """Create the consumer *name*; return its map. Doing it again is fine, with other settings ConsumerConflict."""
        return self.call("create_consumer", name, patterns, settings)

    def update_consumer(self, name, **settings):
        """Change settings of a consumer (not its patterns, mode and start); return its map."""
        return self.call("update_consumer", name, settings)

    def delete_consumer(self, name):
        """Delete a consumer and all it knows; return whether there was one. Its members get ConsumerDeleted."""
        return self.call("delete_consumer", name)

    def seek(self, consumer, where):
        """Go on at *where*: an offset, "earliest", "new", ``{"time": t}``, ``{"last": n}``; forget what is pending."""
        return self.call("seek", consumer, where)

    def pause(self, consumer):
        """Hand out nothing until :meth:`resume`; what is handed out can be acknowledged."""
        return self.call("pause", consumer)

    def resume(self, consumer):
        """Hand out again, after :meth:`pause` or after too many dead letters."""
        return self.call("resume", consumer)

    def clear_acked(self, consumer, *, keep_latest=1000, max_delete=1000):
        """Remove messages from the log that this consumer has acknowledged; return how many."""
        return self.call("clear_acked", consumer, {"keep_latest": keep_latest, "max_delete": max_delete})

    def replace(self, consumer, offset, payload):
        """Give this consumer *payload* in place of that of a message that is not handed out yet.

        Its headers stay: if they name a content type, bytes are read as that.
        """
        return self.call("replace", consumer, offset, payload)

    # --- settling ------------------------------------------------------------------------

    def ack(self, consumer, deliveries=(), *, before=None):
        """Acknowledge; *before*: all that was delivered below that offset. Returns how many were settled by it.

        Raises StaleDelivery for those that are not this delivery's any more, when the others are done.
        """
        return self.call("ack", consumer, _several(deliveries), _given(before=before))

    def nack(self, consumer, deliveries, *, delay_s=None, reason=None, unseen=None):
        """Give back, to be delivered again after *delay_s* (None: the consumer's backoff); return how many.

        *unseen*, True: nobody has looked at them, so they come again at once, and this delivery does not count.
        """
        return self.call("nack", consumer, _several(deliveries),
                         _given(delay_s=delay_s, reason=reason, unseen=unseen))

    def reject(self, consumer, deliveries, *, reason=None):
        """Make dead letters of them, at once; return how many."""
        return self.call("reject", consumer, _several(deliveries), _given(reason=reason))

    def extend(self, consumer, deliveries, seconds):
        """Have that long from now to acknowledge them; return how many."""
        return self.call("extend", consumer, _several(deliveries), seconds)

    # --- dead letters ----------------------------------------------------------------------

    def dead(self, consumer, *, first=None, limit=100):
        """Return the maps of dead letters, from offset *first* of the topic ``$dead.<consumer>`` on."""
        return self.call("dead", consumer, _given(first=first, limit=limit))

    def redrive(self, consumer, *, offsets=None, topic=None):
        """Publish dead letters again (all, or those at *offsets*), at their origin or to *topic*; return how many."""
        return self.call("redrive", consumer, _given(offsets=_list(offsets), topic=topic))

    def purge(self, consumer, *, offsets=None):
        """Be done with dead letters, all or those at *offsets*; return how many."""
        return self.call("purge", consumer, _given(offsets=_list(offsets)))


def _given(**options):
    return {name: value for name, value in options.items() if value is not None}


def _list(offsets):
    return offsets if offsets is None or type(offsets) is int else list(offsets)


def _several(deliveries):
    return deliveries if type(deliveries) is int else list(deliveries)
