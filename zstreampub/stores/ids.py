"""The window of ids: where the newest messages with an id are, so that one that is sent twice is stored once.

Topics do not share ids. Forgotten is one id after the other from the oldest on, and never before the
commit that takes its place is through.
"""

import struct
import sys
from array import array
from collections import deque
from hashlib import blake2b
from itertools import islice

from ..errors import DuplicateId

DIGEST_BYTES = 16

_BLOCK = struct.Struct("<QI")


class IdWindow:
    """The last ``id_window_messages`` ids, none older than ``id_window_s``; the same on disk and in memory.

    Ids have running numbers: those of ``[first, next)`` are remembered. Changed by who commits only.
    """

    def __init__(self, settings):
        self.limit = settings.id_window_messages
        self.first = self.next = 0
        self._us = int(settings.id_window_s * 1e6)
        self._offsets = {}          # digest -> offset
        self._blocks = deque()      # (time_us, digests, offsets) of each commit that had any
        self._gone = 0              # of the first block

    def __len__(self):
        return self.next - self.first

    def offset_of(self, digest):
        """Return the offset of the message that had the id, or None."""
        return self._offsets.get(digest)

    def add(self, time_us, digests, offsets):
        """Remember more ids."""
        self._blocks.append((time_us, digests, array("Q", offsets)))
        self._offsets.update(zip(digests, offsets))
        self.next += len(digests)
        self.forget(time_us)

    def forget(self, now_us):
        """Forget what is too old or too many."""
        while self._blocks and (len(self) > self.limit or self._blocks[0][0] + self._us < now_us):
            time_us, digests, offsets = self._blocks[0]
            expired = time_us + self._us < now_us
            until = len(digests) if expired else min(len(digests), self._gone + len(self) - self.limit)
            for digest, offset in islice(zip(digests, offsets), self._gone, until):
                if self._offsets.get(digest) == offset:     # else it was stored anew, after it was forgotten
                    del self._offsets[digest]
            self.first += until - self._gone
            self._gone = until
            if until == len(digests):
                self._blocks.popleft()
                self._gone = 0


class GroupIds:
    """The window as the appends of one group see it: what is remembered, and what they add to it."""

    def __init__(self, window, time_us):
        window.forget(time_us)
        self._window = window
        self._added = {}

    @property
    def digests(self):
        return list(self._added)

    @property
    def offsets(self):
        return list(self._added.values())

    def originals(self, batches, id_of, end):
        """Tell which of *batches* are repeats: ``(firsts of the originals or None of each, what to keep)``.

        They are to be stored from *end* on; ``id_of(topic)`` is the number of a topic. Changes nothing until
        :meth:`keep`. Raises DuplicateId.
        """
        originals, added = [], {}
        for batch in batches:
            original = None
            if batch.has_ids and self._window.limit:
                digests = _digests(batch, id_of(batch.topic))
                original = self._original(batch, digests, added)
                if original is None:
                    added.update((digest, offset) for offset, digest in enumerate(digests, end) if digest is not None)
            originals.append(original)
            end += batch.count if original is None else 0
        return originals, added

    def keep(self, added):
        self._added.update(added)

    def _original(self, batch, digests, added):
        """Return the first offset of the batch that *batch* repeats, None if it repeats nothing."""
        found = [None if digest is None else self._offset(digest, added) for digest in digests]
        first = found[0]
        if first is not None and found == list(range(first, first + batch.count)):
            return first
        if found.count(None) == len(found) and (len(found) == 1 or _all_differ(digests)):
            return None
        raise DuplicateId(
            f"Some messages of this batch for {batch.topic} repeat an id and others do not, or the originals do "
            "not lie in one row; nothing was stored. Publish those that are new by themselves.",
            topic=batch.topic, offsets=found)

    def _offset(self, digest, added):
        for known in (added, self._added):
            if digest in known:
                return known[digest]
        return self._window.offset_of(digest)


def ids_of(batches):
    """Return the ids of *batches*, pairs with the number of the topic of each, as a dict of digest -> offset."""
    return {digest: offset for batch, topic_id in batches if batch.has_ids
            for offset, digest in enumerate(_digests(batch, topic_id), batch.first) if digest is not None}


def pack_block(time_us, digests, offsets):
    """Return the ids of one commit as bytes: u64 time, u32 ids; the columns of digests and offsets."""
    column = array("Q", offsets)
    if sys.byteorder == "big":
        column.byteswap()
    return b"".join((_BLOCK.pack(time_us, len(digests)), *digests, column.tobytes()))


def unpack_blocks(record):
    """Yield ``(time_us, digests, offsets)``; raises struct.error or ValueError if *record* is none."""
    at = 0
    while at < len(record):
        time_us, count = _BLOCK.unpack_from(record, at)
        middle = at + _BLOCK.size + DIGEST_BYTES * count
        column = array("Q")
        digests = [bytes(record[start:start + DIGEST_BYTES]) for start in range(at + _BLOCK.size, middle, DIGEST_BYTES)]
        at = middle + 8 * count
        if at > len(record):
            raise ValueError("a block of ids is cut off")
        column.frombytes(record[middle:at])
        if sys.byteorder == "big":
            column.byteswap()
        yield time_us, digests, column


def id_digest(topic_id, id):
    """Return what stands for the id of a message of a topic; text and its UTF-8 bytes are one id."""
    raw = id if isinstance(id, bytes) else id.encode()
    return blake2b(raw, digest_size=DIGEST_BYTES, salt=topic_id.to_bytes(16, "big")).digest()


def _digests(batch, topic_id):
    ids = batch.metadata.get("id") or [None] * batch.count      # none, if it is damaged
    return [None if id is None else id_digest(topic_id, id) for id in ids]


def _all_differ(digests):
    there = [digest for digest in digests if digest is not None]
    return len(set(there)) == len(there)
