"""Clock: monotonic in memory, by the calendar on disk."""

import time


class Clock:
    """Tells the time; a test puts one of its own into ``Consumers.clock``."""

    def now(self):
        """Return monotonic seconds: what deadlines are counted in."""
        return time.monotonic()

    def wall_us(self):
        """Return microseconds since the epoch."""
        return time.time_ns() // 1000

    def to_wall_us(self, when):
        """Return the microseconds since the epoch at *when*, by :meth:`now`."""
        return self.wall_us() + int((when - self.now()) * 1e6)

    def from_wall_us(self, wall_us):
        """Undo :meth:`to_wall_us`."""
        return self.now() + (wall_us - self.wall_us()) / 1e6
