"""Marks: where a receiver has been, as its store keeps it beside the messages.

* Of a subscription: the epoch of the log and the next offset.
* Of a consumer: the epoch, and the offsets that are in the store and whose acknowledgement is not known to be on the
  server's disk. If one of them comes again, it is acknowledged and not stored again.
* Of a plain ZeroMQ socket: nothing, for its messages have no place.
"""

from msgpack import packb

from ..errors import BatchTooLarge, EpochMismatch, StoreCorrupt

MOST_BYTES = 900            # of what a consumer's mark remembers: a store takes 1 KiB with its names
ANSWER_S = 10.0             # the longest that the answer to an acknowledgement is waited for, where there is no room


class NoMark:
    """Stands for a mark where there is none."""

    def restore(self, store):
        """Read what *store* has; return the place to go on from, or None."""

    def check(self, feed):
        """Compare with the *feed* that was opened. Raises EpochMismatch."""

    def knows(self, message):
        """Tell whether *message* is in the store already."""
        return False

    def after(self, kept):
        """Return the ``mark=`` with which *kept* is added; it is a list of Judged (handover.py).

        None is stored of one that the filter has left out. It may fail, so nothing is taken note of yet.
        """

    def stored(self, kept):
        """Take note that *kept* is done with, and in the store."""

    def reach(self, place):
        """Take note that everything below *place* is done with; return whether that is news."""
        return False


class OffsetMark(NoMark):
    """Of a subscription; kept as *name*."""

    def __init__(self, name):
        self.name = name
        self._epoch = self._next = None

    def restore(self, store):
        kept = _kept(store, self.name, "next")
        if kept is None:
            return None
        self._epoch, self._next = kept
        return self._next, self._epoch

    def check(self, feed):
        self._epoch = feed.place[1]     # the server has compared

    def knows(self, message):
        return self._next is not None and message.offset < self._next

    def after(self, kept):
        next = kept[-1].message.offset + 1 if kept else self._next
        return self.name, {"epoch": self._epoch, "next": next}

    def stored(self, kept):
        if kept:
            self._next = kept[-1].message.offset + 1

    def reach(self, place):
        if self._next is not None and place[0] <= self._next:
            return False
        self._next = place[0]
        return True


class PendingMark(NoMark):
    """Of a consumer; kept as *name*."""

    def __init__(self, name):
        self.name = name
        self._epoch = None
        self._pending = {}          # offset -> what was said of it in this life, or None

    def restore(self, store):
        kept = _kept(store, self.name, "stored")
        if kept is not None:
            self._epoch, packed = kept
            self._pending = dict.fromkeys(_unpacked(packed))

    def check(self, feed):
        epoch = feed.place[1]
        if self._epoch not in (None, epoch):
            raise EpochMismatch(f"The store was filled from the log {self._epoch!r:.60}, this is {epoch!r:.60}: "
                                "offsets of the one mean nothing in the other. Use another store, or another name.",
                                epoch=epoch)
        self._epoch = epoch
        if self._pending:
            floor = feed.floor()        # below it everything is settled
            self._pending = {offset: said for offset, said in self._pending.items() if offset >= floor}

    def knows(self, message):
        if message.offset not in self._pending:
            return False
        self._pending[message.offset] = message.ack()
        return True

    def after(self, kept):
        new = [one.message.offset for one in kept if one.shown is not None]
        while True:
            self._forget_confirmed()
            packed = _packed({*self._pending, *new})
            if len(packb(packed)) <= MOST_BYTES:
                return self.name, {"epoch": self._epoch, "stored": packed}
            said = next((one for one in self._pending.values() if one is not None), None)
            if said is None:
                break
            said.get(timeout=ANSWER_S)
        raise BatchTooLarge(f"{len(new)} messages that are spread so widely have no room in one mark.", count=len(new))

    def _forget_confirmed(self):
        self._pending = {offset: said for offset, said in self._pending.items()
                         if said is None or not (said.ready() and said.successful())}

    def stored(self, kept):
        for one in kept:
            said = one.message.ack()
            if one.shown is not None:
                self._pending[one.message.offset] = said


def _kept(store, name, what):
    kept = store.mark(name)
    if kept is None:
        return None
    try:
        return kept["epoch"], kept[what]
    except (TypeError, KeyError):
        raise StoreCorrupt(f"The store's mark {name!r} is not one of a receiver of this kind: {kept!r:.80}. Give the "
                           "receiver another name.") from None


def _packed(offsets):
    """Return whole numbers as a list: how many are left out, how many follow each other, and so on."""
    packed: list = []
    next = 0
    for offset in sorted(offsets):
        if packed and offset == next:
            packed[-1] += 1
        else:
            packed += offset - next, 1
        next = offset + 1
    return packed


def _unpacked(packed):
    offsets, next = [], 0
    for left_out, count in zip(packed[::2], packed[1::2]):
        offsets += range(next + left_out, next + left_out + count)
        next += left_out + count
    return offsets
