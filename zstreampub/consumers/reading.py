"""Reading single messages of the log again, by their offsets. Everything here may wait."""

_HOLE = 16      # offsets that are read along rather than asked for separately
_ENDLESS = 1 << 40


def read_offsets(store, wanted, offsets, most_bytes):
    """Return ``(batches, next)``: the messages at *offsets* (in order) as far as they are there, and some others.

    About *most_bytes* of them are read, at least one; all below *next* were looked at. Raises StoreError.
    """
    batches, size, next = [], 0, offsets[0]
    for first, next in _spans(offsets):
        if next == first + 1:
            batch = store.get(first)
            found = [] if batch is None else [batch]
        else:
            found, next = _read_span(store, wanted, first, next, most_bytes - size)
        batches += found
        size += sum(batch.size for batch in found)
        if size >= most_bytes:
            break
    return batches, next


def _read_span(store, wanted, first, next, most_bytes):
    batches, size, mark = [], 0, store.trim_mark()
    while first < next and (size < most_bytes or not batches):
        chunk = store.read(first, wanted, next, next - first, max(most_bytes - size, 1), mark)
        batches += chunk.batches
        size += sum(batch.size for batch in chunk.batches)
        if chunk.next <= first:
            break
        first = chunk.next
    return batches, first


def _spans(offsets):
    """Yield ``(first, next)`` of neighbours among *offsets*."""
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset > last + _HOLE:
            yield first, last + 1
            first = offset
        last = offset
    yield first, last + 1
