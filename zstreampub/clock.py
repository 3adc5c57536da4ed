"""The calendar clock of this machine, in whole microseconds, as batches and due times have it.

It may be set back or forward while the program runs; whoever uses it says what then happens.
What only measures how long something took uses ``time.monotonic`` instead.
"""

import time


def now_us():
    """Return the time now, microseconds since the epoch."""
    return time.time_ns() // 1000
