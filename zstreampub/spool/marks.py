"""Marks: named values that a store keeps in the same transaction as the messages they belong to.

A receiver keeps where it is to go on: after any crash the mark fits the messages.
"""

import msgpack

from ..errors import InvalidOption, InvalidPayload

MAX_MARKS = 100
MAX_MARK_BYTES = 1 << 10        # name and value, packed

pack_marks = msgpack.Packer(use_bin_type=True).pack


def check_mark(mark):
    """Return *mark*, ``(name, value)`` or None, as a map or None. Raises InvalidOption, InvalidPayload."""
    if mark is None:
        return None
    try:
        name, value = mark
    except (TypeError, ValueError):
        raise InvalidOption(f"mark is a pair (name, value), not {mark!r:.60}.", option="mark") from None
    if not isinstance(name, str) or not name:
        raise InvalidOption(f"A mark's name is non-empty text, not {name!r:.60}.", option="mark")
    try:
        packed = pack_marks({name: value})
        kept = msgpack.unpackb(packed)
    except Exception as error:      # msgpack raises several kinds
        raise InvalidPayload(f"The mark {name!r} cannot be kept: {error}. "
                             "Send text, bytes, numbers, lists, and maps with text keys.") from error
    if len(packed) > MAX_MARK_BYTES:
        raise InvalidOption(f"A mark has at most {MAX_MARK_BYTES} bytes, name and value; {name!r:.60} has "
                            f"{len(packed)}.", option="mark")
    return kept


def merged_marks(marks, changes):
    """Return *marks* with *changes*, of which None removes. Raises InvalidOption if they are too many then."""
    merged = {name: value for name, value in {**marks, **changes}.items() if value is not None}
    if len(merged) > MAX_MARKS:
        raise InvalidOption(f"A store has at most {MAX_MARKS} marks. Remove one: set_mark(name, None).",
                            limit=MAX_MARKS)
    return merged
