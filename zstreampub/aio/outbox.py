"""The outbox of a client, and what was put into it, for the event loop."""

from functools import partial


class Sending:
    """What becomes of a message in the outbox: await it for the offset, which it has once the server has it.

    It need not be awaited, and may be awaited more than once.
    """

    __slots__ = ("_line", "_sending")

    def __init__(self, line, sending):
        self._line = line
        self._sending = sending

    def __await__(self):
        return self._line.run(self._sending.get).__await__()


class Outbox:
    """Of a Client with an outbox: what the Outbox of ``zstreampub.client`` shows, and :meth:`wait_until_sent`."""

    def __init__(self, line):
        self._line = line

    async def wait_until_sent(self, timeout_s=None):
        """Wait until all that was published before is on the server's disk, or refused. Raises RequestTimeout."""
        await self._line.run(partial(self._line.client.outbox.wait_until_sent, timeout_s))

    async def refused(self):
        """Return a list of what the server has refused for good."""
        return await self._line.run(lambda: list(self._line.client.outbox.refused()))

    async def clear_refused(self):
        """Forget what was refused; return how many."""
        return await self._line.run(self._line.client.outbox.clear_refused)

    @property
    def messages(self):
        return self._line.client.outbox.messages

    @property
    def size_bytes(self):
        return self._line.client.outbox.size_bytes

    @property
    def age_s(self):
        return self._line.client.outbox.age_s

    @property
    def is_sending(self):
        return self._line.client.outbox.is_sending

    @property
    def last_error(self):
        return self._line.client.outbox.last_error

    @property
    def refused_count(self):
        return self._line.client.outbox.refused_count
