"""A subscription as a coroutine reads it."""

from .pump import SubscriptionPump
from .reader import Reader


class Subscription(Reader):
    """Iterate to get messages; made by ``Client.subscribe``. At most 4,096 messages and 1 MiB are ahead of the reader.

    ``offset`` is where to resume: all messages below were handed out, or are not for this subscription.
    """

    pump_of = SubscriptionPump

    def __init__(self, line_of, make, **callbacks):
        super().__init__(line_of, make, **callbacks)
        self._offset = None
        self._message = None        # the last one handed out
        self._batch = None          # that is being handed out
        self._size = 0              # what it is worth to the pump
        self._count = 0
        self._is_fresh = False      # nobody has looked into it
        self._messages = iter(())

    @property
    def offset(self):
        """The next offset after the last message handed out; None before it is open."""
        message = self._message
        if message is not None and message.offset >= self._offset:
            return message.offset + 1
        return self._offset

    @property
    def conflated(self):
        """How many messages the policy ``conflate`` left out, those that are ahead of the reader too."""
        return self._inside.conflated if self._inside else 0

    async def batches(self):
        """Iterate over whole batches, the fast way, in parts of at most 2,048 messages."""
        while True:
            batch = self._rest()
            if batch is not None:
                yield batch
            elif not await self._go_on():
                return

    def _rest(self):
        """Return what is not handed out of the batch that is loaded, None if nothing is."""
        batch, is_fresh = self._batch, self._is_fresh
        if batch is None:
            return None
        offset = self.offset
        self._use_up()
        if is_fresh:
            rest = batch
        elif offset < batch.next:
            rest = batch.slice(max(offset - batch.first, 0), batch.count)
        else:
            return None
        self._offset = batch.next
        return rest

    def _hand_out(self):
        if self._is_fresh:
            self._is_fresh = False
            self._messages = iter(self._batch.messages())
        for message in self._messages:
            self._message = message
            return message
        if self._batch is not None:
            self._use_up()
        return None

    def _load(self, content, messages, size):
        self._batch, self._count, self._size, self._is_fresh = content, messages, size, True

    def _use_up(self):
        self._give_back(self._count, self._size)
        self._drop()

    def _drop(self):
        self._batch, self._is_fresh, self._messages = None, False, iter(())

    def _reach(self, offset):
        if offset is not None:
            self._offset = max(offset, self.offset or 0)
