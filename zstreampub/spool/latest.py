"""LatestStore: the newest of the received messages on disk, one in all, or one of each topic or key."""

import msgpack

from ..checks import within
from ..disk.environment import Layout
from ..errors import InvalidOption, InvalidPayload
from ..message import Message
from .items import Items, check_sizes
from .latest_plan import NAME, NUMBER, Forget, LatestPlan
from .marks import check_mark
from .memory import check_memory, read_memory
from .plan import Add
from .records import STATE_KEY, State
from .spool import MAX_DISK_BYTES, Spool

_LAYOUT = Layout(
    ("latest",),
    "holds an LMDB environment that is not a LatestStore. Name another directory.",
    "Forget some messages, raise max_disk_bytes, or free space on the disk.",
    ("latest", STATE_KEY))


class LatestStore(Spool):
    """The newest message in the directory *path*; with *by* ``"topic"`` or ``"key"``, the newest of each of them.

    What :meth:`add` was given is on disk when it returns, unless there is a newer one. ``new_message`` is True
    until :meth:`message` has returned it, and after opening. All messages are held in memory as well:
    *max_messages* and *max_bytes* bound them. What is one too many is refused (SpoolFull), or, with *when_full*
    ``"drop_oldest"``, the topic or key that has had no message for longest is forgotten. *codec* is as in a
    FifoStore. *durability*: ``"sync"``, or ``"relaxed"``: a power cut, but not ``kill -9``, may take back the last
    commit.
    """

    def __init__(self, path, *, by=None, max_messages=100_000, max_bytes=64 << 20, when_full="refuse", codec=None,
                 durability="sync", max_disk_bytes=MAX_DISK_BYTES):
        if by not in (None, "topic", "key"):
            raise InvalidOption(f"by is None, 'topic' or 'key', not {by!r:.40}.", option="by")
        if when_full not in ("refuse", "drop_oldest"):
            raise InvalidOption(f"when_full is 'refuse' or 'drop_oldest', not {when_full!r:.40}.", option="when_full")
        self.by = by
        self.when_full = when_full
        self.max_messages = within("max_messages", max_messages, None, 1, 1 << 50)
        self.max_bytes = within("max_bytes", max_bytes, None, 1, 1 << 50)
        self._items = Items(codec)
        super().__init__(path, _LAYOUT, durability, max_disk_bytes)

    # --- adding -----------------------------------------------------------------------------

    def add(self, message, mark=None):
        """Keep *message* in the place of what was there; it is on disk when this returns. Return whether it is kept.

        It is not if it is None, as a filter returns it. *mark* is as in a FifoStore. Raises SpoolFull, StoreFull,
        InvalidPayload, MessageTooLarge; with ``by``, InvalidPayload for what has no topic or key.
        """
        return self.add_many(() if message is None else (message,), mark) > 0

    __call__ = add

    def add_many(self, messages, mark=None, memory=None):
        """Keep *messages*, one after the other, in one transaction; return how many there were.

        See :meth:`add`, and for *memory* FifoStore.
        """
        self._check_open()
        marks, changes = check_mark(mark), check_memory(memory)
        messages = [message for message in messages if message is not None]
        if not messages and marks is None and not changes:
            return 0
        items = list(zip(map(self._name_of, messages), self._items.pack_many(messages)))
        size = sum(len(item) for _, item in items)
        check_sizes([item for _, item in items], self.max_bytes)
        return self._run(Add(items, size, marks, changes))

    def set_mark(self, name, value):
        """Keep the mark alone; None removes it."""
        self.add_many((), (name, value))

    def _name_of(self, message):
        if self.by is None:
            return None
        if not isinstance(message, Message):
            raise InvalidPayload(f"A LatestStore by {self.by} takes messages of zstreampub, which have one; this is "
                                 f"{type(message).__name__}.")
        return message.topic if self.by == "topic" else message.key

    def forget(self, name=None):
        """Remove what there is of the topic or key *name*; return whether there was something."""
        return self._run(Forget(name))

    # --- looking ------------------------------------------------------------------------------

    def message(self, name=None):
        """Return the newest message, None if there is none; with ``by``, that of the topic or key *name*.

        It is not new any more then. With ``by="topic"`` and no name, it is the newest of all. Raises StoreCorrupt if
        it does not decode.
        """
        number, item = self._look(name)
        return None if item is None else self._items.unpack(item, number)

    def _look(self, name):
        with self._looking():
            if name is None and self.by == "topic" and self.newest:
                name = next(reversed(self.newest))
            self._new.discard(name)
            return self.newest.get(name, (None, None))

    @property
    def new_message(self):
        """Whether a message has come that :meth:`message` has not returned yet."""
        self._check_open()
        return bool(self._new)

    def new_names(self):
        """Return the topics or keys whose newest message :meth:`message` has not returned yet, as a list."""
        with self._looking():
            return list(self._new)

    def names(self):
        """Return the topics or keys that there are, the one with the newest message last."""
        with self._looking():
            return list(self.newest)

    def __len__(self):
        """Return how many messages there are: topics or keys."""
        self._check_open()
        return len(self.newest)

    # --- for the plan and the commits ------------------------------------------------------------

    def _load_memory(self, txn, db, prefix):
        return read_memory(txn, db.latest, prefix)

    def _make(self, txn, db):
        txn.put(STATE_KEY, State().pack(), db=db.latest)

    def _load(self, txn, db):
        state = State.parse(txn.get(STATE_KEY, db=db.latest))
        found = []
        for key, value in txn.cursor(db.latest):
            if key[:1] == NAME:
                found.append((NUMBER.unpack_from(value)[0], msgpack.unpackb(key[1:]), bytes(value[NUMBER.size:])))
        found.sort(key=lambda one: one[0])
        return state, {name: (number, item) for number, name, item in found}

    def _take_over(self, state, newest):
        self.state, self.all_marks = state, state.marks
        self.newest = newest        # name -> (number, item), the newest last
        self._new = set(newest)

    def _plan(self, operations, full=None):
        return LatestPlan(self, operations, full)

    def _save(self, plan):
        self._environment.write(plan.write, removing=plan.removes)

    def _apply(self, plan, ahead):
        for name, entry in plan.changed.items():
            self.newest.pop(name, None)
            self._new.discard(name)
            if entry is not None:
                self.newest[name] = entry
                self._new.add(name)
        self.state, self.all_marks = plan.state, plan.marks
