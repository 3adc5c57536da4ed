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


class Producers:
    """The records of all producers, the longest idle first."""

    def __init__(self, limit):
        self._limit = limit
        self._records = OrderedDict()
        self._unpacked = {}

    def __len__(self):
        return len(self._records)

    def load(self, records):
        """Take over ``(producer, record)`` pairs in any order."""
        self._records = OrderedDict(sorted(records, key=lambda one: _TIME.unpack_from(one[1])))
        self._unpacked = {}

    def sequences(self, producer):
        """Return a dict of sequence -> packed entry that the caller may change."""
        sequences = self._unpacked.get(producer)
        if sequences is None:
            record = self._records.get(producer)
            return unpack(record) if record else {}
        return dict(sequences)

    def surplus(self, touched):
        """Return the producers that must be forgotten once those in *touched* are kept."""
        over = len(self._records) + sum(one not in self._records for one in touched) - self._limit
        if over <= 0:
            return []
        idle = (one for one in self._records if one not in touched)
        return [one for one, _ in zip(idle, range(over))]

    def keep(self, touched, records, forgotten):
        """Make it so: *touched* maps producers to sequences, *records* to the same packed."""
        for producer in forgotten:
            del self._records[producer]
            self._unpacked.pop(producer, None)
        for producer, record in records.items():
            self._records[producer] = record
            self._records.move_to_end(producer)
        if len(self._unpacked) + len(touched) > _UNPACKED:
            self._unpacked = {}
        self._unpacked.update(touched)


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
    """Note that *sequence* was stored at *firsts*; the lowest sequence gives way."""
    if len(sequences) >= KEPT:
        del sequences[min(sequences)]
    sequences[sequence] = _ENTRY.pack(sequence, len(firsts)) + struct.pack(f">{len(firsts)}Q", *firsts)


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
