"""Expiry: what of a batch may still be shown, and gaps where the rest was."""

from itertools import groupby

from .store import Gap

EXPIRED = "expired"


def shown(batch, now_us):
    """Return *batch* as a list, in order: what has not expired at *now_us*, as batches, and gaps for what has."""
    if batch.soonest_expiry > now_us:
        return [batch]
    over = [us is not None and us <= now_us for us in batch.expires]
    parts = []
    for is_over, places in groupby(range(batch.count), over.__getitem__):
        start, *rest = places
        stop = start + 1 + len(rest)
        parts.append(Gap(batch.first + start, batch.first + stop, stop - start, EXPIRED) if is_over
                     else batch.slice(start, stop))
    return parts
