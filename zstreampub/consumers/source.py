"""Sources of messages to hand out: a batch that came new, or one that was read again; cut as members have room."""

from .lease import DYING, PARKED, Lease

_NEVER = (None,)


class Source:
    """One batch. ``left`` is how many of its messages have not been looked at.

    ``cut(most, room)`` returns ``(piece, delivery)``: a batch of at most *most* messages and about *room* bytes,
    next to each other, that were delivered *delivery* times; None if nothing of it is left to hand out.
    """

    def __init__(self, consumer, batch):
        self._consumer = consumer
        self._state = consumer.state
        self._batch = batch
        self._at = 0
        self._raws = self._metadata = self._sound = None
        self._expires = batch.expires

    @property
    def left(self):
        return self._batch.count - self._at

    def cut(self, most, room):
        batch = self._batch
        most = min(most, max(1, room * batch.count // batch.size))
        start, stop, delivery = self._next(most)
        return (self._piece(start, stop), delivery) if start < stop else None

    def _next(self, most):
        raise NotImplementedError

    def _piece(self, start, stop):
        batch, instead = self._batch, self._consumer.instead
        if stop - start == batch.count and not instead:
            return batch
        if self._raws is None:
            self._raws, self._metadata = batch.raw_payloads, batch.metadata
        raws, first = self._raws[start:stop], batch.first + start
        if instead:
            raws = [instead.get(first + at, raw) for at, raw in enumerate(raws)]
        metadata = {name: column[start:stop] for name, column in self._metadata.items()}
        if self._sound is None:
            self._sound = batch.is_sound
        return batch.assemble(batch.topic, raws, metadata, first, batch.time_us, self._sound)

    def _keys(self):
        if self._metadata is None:
            self._metadata = self._batch.metadata
            self._raws = self._batch.raw_payloads
        return self._metadata.get("key") or _NEVER * self._batch.count

    def _is_expired(self, at):
        expires = self._expires[at]
        return expires is not None and expires <= self._consumer.home.clock.wall_us()


class New(Source):
    """Messages from the cursor on; the cursor goes with them.

    Raises StoreCorrupt if the batch is damaged so that it cannot be looked into.
    """

    def __init__(self, consumer, batch):
        batch.check_columns()       # it may have to be cut, and its reader could not read it either
        super().__init__(consumer, batch)
        if consumer.keys is not None:
            self._keys()

    def _next(self, most):
        consumer, state, batch = self._consumer, self._state, self._batch
        most = min(most, consumer.options.max_pending - state.live)
        if not state.ahead and self._expires is None and consumer.keys is None:
            start, stop = self._at, min(self._at + most, batch.count)
            self._at, state.cursor = stop, batch.first + stop
            return start, stop, 0
        return self._pick(most)

    @property
    def is_held(self):
        """Whether the cursor must wait before its next message."""
        return self.left > 0 and self._batch.first + self._at in self._state.loose

    def _pick(self, most):
        """Look at each message: there are reasons why it may not go out."""
        batch, state, start = self._batch, self._state, None
        while self._at < batch.count and (start is None or self._at - start < most) and not self.is_held:
            at, offset = self._at, self._batch.first + self._at
            if self._is_left_out(at, offset):
                if start is not None or state.live >= self._consumer.options.max_pending:
                    break       # looked at again next time, with the cursor at its place
                self._leave_out(at, offset)
            elif start is None:
                most = min(most, self._consumer.options.max_pending - state.live)   # some may be parked by now
                if most <= 0:
                    break
                start = at
            self._at += 1
            state.cursor = max(state.cursor, offset + 1)
            if start is not None and self._consumer.keys is not None:
                self._consumer.keys.out(offset, self._keys()[at])
        return (self._at if start is None else start), self._at, 0

    def _is_left_out(self, at, offset):
        if offset in self._state.ahead or (self._expires is not None and self._is_expired(at)):
            return True
        keys = self._consumer.keys
        return keys is not None and keys.is_busy(self._keys()[at])

    def _leave_out(self, at, offset):
        consumer, state = self._consumer, self._state
        if offset in state.ahead:
            state.pass_by(offset)
            return
        state.cursor = offset + 1
        if self._expires is not None and self._is_expired(at):
            consumer.expired_new(offset, self._keys()[at] if consumer.keys is not None else None)
        else:
            consumer.park(offset, self._keys()[at])


class Again(Source):
    """Messages that wait for their next delivery, read back; those that do not wait any more are passed over."""

    def _next(self, most):
        state, batch, start, delivery = self._state, self._batch, None, 0
        while self._at < batch.count and (start is None or self._at - start < most):
            offset = batch.first + self._at
            lease = state.is_ready(offset)
            if lease is not None and self._is_left_out(offset):
                if start is not None:
                    break
                self._leave_out(offset)
                lease = None
            if start is not None and (lease is None or lease.delivery != delivery):
                break
            if lease is not None and start is None:
                start, delivery = self._at, lease.delivery
            self._at += 1
        return (self._at if start is None else start), self._at, delivery

    def _is_left_out(self, offset):
        keys = self._consumer.keys
        return ((self._expires is not None and self._is_expired(self._at))
                or (keys is not None and not keys.is_first(offset)))

    def _leave_out(self, offset):
        if self._expires is not None and self._is_expired(self._at):
            self._consumer.expired(offset)
        else:
            self._state.put(parked(), offset, offset + 1)

    def rest(self):
        """Return the offsets ``(first, next)`` that were not looked at."""
        return self._batch.first + self._at, self._batch.next


def parked():
    """Return a lease of what waits for an earlier message of its key."""
    return Lease(PARKED)


def dying():
    """Return a lease of what goes to the dead letters without having been delivered."""
    return Lease(DYING)
