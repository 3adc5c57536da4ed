"""What is remembered of producers, so that a publish that is sent twice is stored once.

For each producer the firsts of its ``KEPT`` highest sequences. Whatever was stored
with a sequence at or above the lowest one kept is still known; so a sequence in between
that is not known was never stored, and only one below may have been forgotten.

A record: u64 time of last use (microseconds), then for each sequence
u64 sequence, u16 number of batches, u64 first offset of each.
"""

import struct
from collections import OrderedDict

from ..errors import SequenceTooOld

KEPT = 64

_TIME = struct.Struct(">Q")
_ENTRY = struct.Struct(">QH")
_UNPACKED = 512     # producers whose record stands ready as a dict
_MOST_BYTES = 64 << 20      # of all records: one of 64 appends of 1,024 batches each has half a MiB


class Producers:
    """The records of all producers, the longest idle first.

    ``changed``: whose record differs from what was saved last; for the store that saves.
    """

    def __init__(self, limit):
        self._limit = limit
        self._records = OrderedDict()
        self._bytes = 0
        self._unpacked = {}
        self.changed = set()

    def __len__(self):
        return len(self._records)

    def record(self, producer):
        """Return the packed record, or None if the producer is forgotten."""
        return self._records.get(producer)

    def load(self, records):
        """Take over ``(producer, record)`` pairs in any order."""
        self._records = OrderedDict(sorted(records, key=lambda one: _TIME.unpack_from(one[1])))
        self._bytes = sum(map(len, self._records.values()))
        self._unpacked = {}

    def sequences(self, producer):
        """Return a dict of sequence -> packed entry that the caller may change."""
        sequences = self._unpacked.get(producer)
        if sequences is None:
            record = self._records.get(producer)
            return unpack(record) if record else {}
        return dict(sequences)

    def keep(self, touched, time_us):
        """Keep *touched*, a dict of producer -> sequences; the longest idle ones are forgotten over the limits."""
        for producer, sequences in touched.items():
            record = pack(sequences, time_us)
            self._bytes += len(record) - len(self._records.get(producer, b""))
            self._records[producer] = record
            self._records.move_to_end(producer)
            self.changed.add(producer)
        if len(self._unpacked) + len(touched) > _UNPACKED:
            self._unpacked = {}
        self._unpacked.update(touched)
        while len(self._records) > self._limit or (self._bytes > _MOST_BYTES and len(self._records) > 1):
            producer, record = self._records.popitem(last=False)
            self._bytes -= len(record)
            self._unpacked.pop(producer, None)
            self.changed.add(producer)


def known(sequences, sequence, producer):
    """Return the firsts stored with *sequence*, or None; raise SequenceTooOld if nobody can know."""
    entry = sequences.get(sequence)
    if entry is not None:
        return _firsts(entry)
    if len(sequences) >= KEPT and sequence < min(sequences):
        raise SequenceTooOld(
            f"Sequence {sequence} is older than the last {KEPT} of this producer, so it cannot be told whether "
            "it was stored. Read the topic to find out, then publish with a new sequence.",
            producer=producer, sequence=sequence, oldest=min(sequences))
    return None


def remember(sequences, sequence, firsts):
    """Note that *sequence* was stored at *firsts* and return its entry; the lowest sequence gives way."""
    if len(sequences) >= KEPT:
        del sequences[min(sequences)]
    entry = _ENTRY.pack(sequence, len(firsts)) + struct.pack(f">{len(firsts)}Q", *firsts)
    sequences[sequence] = entry
    return entry


def replay(sequences, entry):
    """Note an entry again that *sequences* may already have, or may already have forgotten."""
    sequence, _ = _ENTRY.unpack_from(entry)
    if sequence not in sequences and (len(sequences) < KEPT or sequence > min(sequences)):
        remember(sequences, sequence, _firsts(entry))


def pack(sequences, time_us):
    """Return the record of one producer."""
    return _TIME.pack(time_us) + b"".join(sequences.values())


def unpack(record):
    """Return the sequences of a record; raises struct.error if it is none."""
    sequences, at = {}, _TIME.size
    while at < len(record):
        sequence, count = _ENTRY.unpack_from(record, at)
        until = at + _ENTRY.size + 8 * count
        if until > len(record):
            raise struct.error(f"the record ends in the middle of sequence {sequence}")
        sequences[sequence] = bytes(record[at:until])
        at = until
    return sequences


def _firsts(entry):
    _, count = _ENTRY.unpack_from(entry)
    return list(struct.unpack_from(f">{count}Q", entry, _ENTRY.size))
