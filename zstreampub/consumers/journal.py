"""How consumers are written down: changes for the store's journal, and records.

A change is ``b"c"`` and a msgpack list: the token that is used up, then for each consumer
``[id, cursor from, cursor to, acked, redelivered, operation, ...]``. Operations are absolute, so that
replaying them over a newer snapshot changes nothing::

    [0, first, next, ...]                                       settled
    [1, kind, token, delivery, due, error, first, next, ...]    pending, under that lease
    [2, first, next, ...]                                       dead letters that are settled
    [3, first, next, ...]                                       settled, and not by a member

Times are microseconds by the calendar. A consumer has one record, its head, at ``consumers/head/<name>``;
what is pending is in parts at ``consumers/part/<id><number of the snapshot><number of the part>``, lists of
``[kind, token, delivery, due, error, first, next, ...]``; what replaces a payload at
``consumers/instead/<id><offset>``; the token that was used up in the changes that are forgotten at
``consumers/token``. To change any of this, give the head's ``format`` the next number.
"""

import struct

import msgpack

from .lease import DYING, IN_FLIGHT, Lease, pairs

FORMAT = 1
HEADS = b"consumers/head/"
PARTS = b"consumers/part/"
INSTEAD = b"consumers/instead/"
TOKEN = b"consumers/token"
MARK = b"c"

SETTLED, LEASED, DEAD_SETTLED, GONE = range(4)

_ID = struct.Struct(">Q")
_PART = struct.Struct(">QII")
_INSTEAD = struct.Struct(">QQ")
_pack = msgpack.Packer(use_bin_type=True).pack


def pack_change(token, consumers):
    """Return the change that tells of *consumers*, a list of lists as above."""
    return MARK + _pack([token, *consumers])


def unpack_change(change):
    """Return ``(token, consumers)``, None if somebody else wrote it."""
    if change[:1] != MARK:
        return None
    token, *consumers = msgpack.unpackb(change[1:], strict_map_key=False)
    return token, consumers


def settled(runs):
    return [SETTLED, *runs]


def gone(runs):
    return [GONE, *runs]


def leased(lease, runs, clock):
    """Return the operation that puts *runs* under *lease*."""
    return [LEASED, *_lease(lease, clock), *runs]


def head_key(name):
    return HEADS + name.encode()


def part_key(id, snapshot, part):
    return PARTS + _PART.pack(id, snapshot, part)


def parts_prefix(id, snapshot=None):
    return PARTS + (_ID.pack(id) if snapshot is None else _PART.pack(id, snapshot, 0)[:12])


def instead_key(id, offset):
    return INSTEAD + _INSTEAD.pack(id, offset)


def instead_prefix(id):
    return INSTEAD + _ID.pack(id)


def instead_offset(key):
    return _INSTEAD.unpack(key[len(INSTEAD):])[1]


def pack_part(leases, clock):
    """Return the part that holds *leases*, a list of ``(lease, runs)``."""
    return _pack([[*_lease(lease, clock), *runs] for lease, runs in leases])


def unpack_part(packed):
    return msgpack.unpackb(packed)


def pack_token(token):
    return _pack(token)


def unpack_token(packed):
    return msgpack.unpackb(packed)


def pack_head(fields):
    return _pack({"format": FORMAT, **fields})


def unpack_head(packed):
    return msgpack.unpackb(packed)


def _lease(lease, clock):
    kind = IN_FLIGHT if lease.kind == DYING else lease.kind     # it comes up again at once
    due_us = clock.to_wall_us(lease.due) if lease.due else 0
    return kind, lease.token, lease.delivery, due_us, lease.error


class Replay:
    """Applies what was written down to a state; then ``state.restore`` counts what is there."""

    def __init__(self, state, dead, clock):
        self._state = state
        self._dead = dead
        self._zero = clock.from_wall_us(0)      # when the epoch was

    def part(self, packed):
        """Take one part of the snapshot."""
        for lease in unpack_part(packed):
            self._lease(lease)

    def change(self, cursor_from, cursor_to, acked, redelivered, *operations):
        """Take what one change says of this consumer."""
        state = self._state
        state.acked, state.redelivered = max(state.acked, acked), max(state.redelivered, redelivered)
        for kind, *operation in operations:
            if kind in (SETTLED, GONE):
                self._settle(operation, kind == SETTLED)
            elif kind == LEASED:
                self._lease(operation)
            elif kind == DEAD_SETTLED:
                self._dead.settle(operation)
        # Where a change before this one was not stored, the cursor stays: what was handed out since is ahead of it.
        if cursor_from <= state.cursor < cursor_to:
            state.cursor = state.sent = state.saved = cursor_to
            state.ahead = {offset for offset in state.ahead if offset >= cursor_to}

    def _settle(self, runs, by_member):
        pending, state = self._state.pending, self._state
        for first, next in pairs(runs):
            for offset in range(first, next):
                lease = pending.pop(offset, None)
                if by_member and lease is not None:     # an ack whose answer was lost with the server comes again
                    state.recent[offset] = lease.token
            state.ahead.update(range(max(first, state.cursor), next))
        state.remember((), None)

    def _lease(self, packed):
        kind, token, delivery, due_us, error, *runs = packed
        lease = Lease(kind, token, delivery, self._zero + due_us / 1e6 if due_us else 0.0, error=error)
        pending = self._state.pending
        for first, next in pairs(runs):
            pending.put(first, next, lease)
