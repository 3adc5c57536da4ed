"""A sieve: a list of filters at work on the messages of a log, in order, for one reader. Nothing here waits."""

from .words import Parsed

_PIECE_MESSAGES = 4_096     # looked at before others have a turn,
_PIECE_CONDITIONS = 16_384  # or so many comparisons,
_OPENED_MESSAGES = 1_024    # or these if their payloads are opened,
_OPENED_BYTES = 256 << 10   # and about as many bytes
_PART_MESSAGES = 4_096      # packed again before others have a turn


def sieve_of(filters):
    """Return a Sieve, or None if *filters*, a map or a list of maps, is None or an empty list. Raises InvalidOption."""
    sieve = None if filters is None else Sieve(filters)
    return sieve if sieve and (sieve.headers_only or sieve.has_stages) else None


class Sieve:
    """What passes *filters* (as docs/filters.rst has them). Raises InvalidOption.

    Its rates remember from one call to the next: it is given each message once, in order.
    """

    def __init__(self, filters):
        self._parsed = Parsed(filters)
        self._stages = self._parsed.stages
        self._piece = max(1, min(_PIECE_MESSAGES, _PIECE_CONDITIONS // max(self._parsed.conditions, 1)))

    @property
    def has_stages(self):
        """Whether anything may be left out."""
        return bool(self._stages)

    @property
    def headers_only(self):
        """Whether what passes has nil in place of its payload."""
        return self._parsed.headers_only

    def parts(self, opened):
        """Yield, as batches in order, what passes of *opened*; and None now and then, for others to have a turn.

        A damaged batch passes whole: nobody knows what was in it, and the reader is to be told.
        """
        if not opened.is_sound:
            yield opened.batch
            return
        kept = yield from self._kept(opened)
        if len(kept) == opened.count and not self.headers_only:
            yield opened.batch
            return
        opened, packed = opened.undecoded(), 0
        for start, stop in _runs(kept):
            yield opened.part(start, stop, not self.headers_only)
            packed += stop - start + _RUN_COST
            if packed > _PART_MESSAGES:
                packed = 0
                yield None

    def _kept(self, opened):
        kept: list = []
        size = self._piece
        if self._parsed.opens_payloads:
            size = max(1, min(size, _OPENED_MESSAGES, _OPENED_BYTES * opened.count // opened.batch.size))
        for start in range(0, opened.count, size):
            if start:
                yield None
            places = range(start, min(start + size, opened.count))
            for stage in self._stages:
                places = stage.pick(opened, places)
                if not places:
                    break
            kept += places
        return kept


_RUN_COST = 8       # to pack a batch costs as much as so many messages in it


def _runs(places):
    """Yield ``(start, stop)`` of each run of neighbours in *places*, of _PART_MESSAGES at most."""
    start, stop = 0, None
    for at in places:
        if at != stop or stop - start == _PART_MESSAGES:
            if stop is not None:
                yield start, stop
            start = at
        stop = at + 1
    if stop is not None:
        yield start, stop
