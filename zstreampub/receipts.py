"""Receipts: who must have a message before its publisher is answered (``wait``). Runs on the hub; nothing here waits.

*Delivered* means handed to a connection: a subscription or a member has taken the message from its
queue, and its bytes are on their way (embedded: it came out of ``get`` or an iteration). Whether the
program at the other end has seen it, only an acknowledgement can tell: *acked* means that a
consumer has acknowledged it, and that this is on disk.
"""

import gevent

from .errors import InvalidOption, Overloaded, UnknownConsumer

MOST = 10_000       # publishes that wait at the same time


class Receipts:
    """The publishes of *broker* that wait for more than the disk.

    ``expected`` are those that are not on disk yet, ``watched`` maps offsets to the waits that want to know who takes
    them: while these are empty, nobody need call :meth:`stored` or :meth:`taken`.
    """

    def __init__(self, broker):
        self.expected = {}
        self.watched = {}
        self._broker = broker
        self._waits = {}            # append -> Wait, of those that are on disk

    def expect(self, order, reply):
        """Call ``reply(append)`` when what *order* wishes for has come, or its time is over. Raises RequestErrors."""
        wish, append = order.wish, order.append
        if len(self.expected) + len(self._waits) >= MOST:
            raise Overloaded(f"{MOST} publishes wait to be delivered or acknowledged already. Try again later.",
                             limit=MOST)
        for name in wish.names or ():
            self._check(name, {batch.topic for batch in append.batches})
        self.expected[append] = Wait(self, order, reply)
        append.reply = self._replied

    def forget(self, append):
        """The store has refused *append* at once."""
        self.expected.pop(append, None)

    def stored(self, appends):
        """Learn of finished *appends*, before anybody is offered them."""
        for append in appends:
            wait = self.expected.pop(append, None)
            if wait is not None:
                self._waits[append] = wait
                if append.error is None:
                    wait.begin()

    def taken(self, id, batch):
        """Learn that the subscription called *id* has taken *batch*."""
        if id not in self._broker.subscriptions:
            return      # it reads for a consumer
        offsets = range(batch.first, batch.next)
        for offset in [one for one in self.watched if one in offsets] if len(self.watched) < batch.count else offsets:
            for wait in tuple(self.watched.get(offset, ())):
                wait.takes(id, offset)

    def release(self):
        """Answer everybody with what has come so far: the broker closes."""
        for wait in tuple(self._waits.values()):
            wait.finish()

    def end(self, wait):
        """Forget *wait*."""
        self._waits.pop(wait.order.append, None)

    def consumers_of(self, topic):
        """Return the consumers that are given messages of *topic*."""
        return [one for one in self._broker.consumers.by_name.values() if topic in one.wanted]

    def subscriptions_of(self, topic):
        """Return the subscriptions, members too, that are given messages of *topic*."""
        return [one for one in self._broker.subscriptions.values() if topic in one.wanted]

    def watch(self, wait):
        """Tell ``wait.has(name)`` of each of its messages that is taken, or acknowledged."""
        for offset in wait.offsets:
            if wait.wish.wait == "acked":
                self._broker.consumers.watch(offset, wait.has)
            else:
                self.watched.setdefault(offset, []).append(wait)

    def unwatch(self, wait):
        """Undo :meth:`watch`."""
        for offset in wait.offsets:
            if wait.wish.wait == "acked":
                self._broker.consumers.unwatch(offset, wait.has)
            else:
                others = self.watched[offset]
                others.remove(wait)
                if not others:
                    del self.watched[offset]

    def _replied(self, append):
        self._waits[append].replied()

    def _check(self, name, topics):
        consumer = self._broker.consumers.by_name.get(name)
        if consumer is None:
            raise UnknownConsumer(f"wait_for: there is no consumer {name!r}; nothing was published. "
                                  "Create it, or leave it out.", consumer=name)
        for topic in topics:
            if topic not in consumer.wanted:
                raise InvalidOption(f"wait_for: consumer {name!r} is not given messages of {topic!r}; nothing was "
                                    "published. Leave it out.", option="wait_for")


class Wait:
    """One publish that waits, and who has its messages: ``by``, in the order in which they had all of them."""

    def __init__(self, receipts, order, reply):
        self.order = order
        self.wish = order.wish
        self.offsets = range(0)
        self._receipts = receipts
        self._reply = reply
        self._had = {}
        self._taken: set = set()
        self._by = []
        self._timer = None
        self._ready = False         # it is fanned out, so it may be answered

    def begin(self):
        """Its messages have offsets now, and nobody has been offered them, unless they are repeats."""
        append = self.order.append
        first = append.firsts[0]
        self.offsets = range(first, first + append.count)
        self._receipts.watch(self)
        if append.duplicate:
            self._by += self._who_has_it()

    def takes(self, name, offset):
        """Learn that *name* has taken the message at *offset*; a member may get one more than once."""
        if (name, offset) not in self._taken:
            self._taken.add((name, offset))
            self.has(name)

    def has(self, name):
        """Learn that *name* has one more of the messages."""
        self._had[name] = self._had.get(name, 0) + 1
        if self._had[name] == len(self.offsets) and name not in self._by:
            self._by.append(name)
            if self._ready and self._is_complete():
                self.finish()

    def replied(self):
        """The store has answered, and it is fanned out."""
        self._ready = True
        if self.order.append.error is not None or self._is_complete():
            self.finish()
        else:
            self._timer = gevent.spawn_later(self.wish.timeout_s, self.finish)

    def finish(self):
        """Answer with what has come."""
        self._receipts.end(self)
        if self.offsets:
            self._receipts.unwatch(self)
        if self._timer is not None and self._timer is not gevent.getcurrent():
            self._timer.kill(block=False)
        append = self.order.append
        if append.error is None:
            self.order.answer = self._answer(append)
        self._reply(append)

    def _answer(self, append):
        form = self.order.form(append)
        where = {"offset": form} if isinstance(form, int) else {"first": form[0], "next": form[1]}
        return {**where, "wait": self.wish.wait, "by": list(self._by), "missing": self._missing(),
                "complete": self._is_complete()}

    def _is_complete(self):
        if self.wish.names is not None:
            return set(self.wish.names) <= set(self._by)
        return len(self._by) >= self.wish.count

    def _missing(self):
        expected = self.wish.names
        if expected is None:
            expected = self._everybody()
        return [name for name in expected if name not in self._by]

    def _everybody(self):
        if self.wish.wait == "acked":
            return [one.name for one in self._receipts.consumers_of(self._topic)]
        return [one.id for one in self._receipts.subscriptions_of(self._topic)]

    def _who_has_it(self):
        """Return who has had the messages before, as they were published before: whose place is past them."""
        last = self.offsets[-1]
        if self.wish.wait == "acked":
            return [one.name for one in self._receipts.consumers_of(self._topic)
                    if all(one.has_settled(offset) for offset in self.offsets)]
        return [one.id for one in self._receipts.subscriptions_of(self._topic) if one.position > last]

    @property
    def _topic(self):
        return self.order.topic
