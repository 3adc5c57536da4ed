"""Plain counters and one histogram: what happened, cheap enough for the hot path.

Not locked: each is written by one thread only and read by anybody.
"""


class Histogram:
    """Counts of values by power of two; keeps 64 integers whatever it is fed.

    Values are in any one unit; say which in the name of the attribute that holds it
    (``commit_us``). A quantile is the upper edge of its bucket, so at most twice too high.
    """

    __slots__ = ("counts", "total", "most")

    def __init__(self):
        self.counts = [0] * 64
        self.total = 0
        self.most = 0

    def add(self, value):
        value = int(value)
        self.counts[value.bit_length()] += 1
        self.total += value
        if value > self.most:
            self.most = value

    def quantile(self, share):
        """Return a value that *share* (0..1) of all values do not exceed; 0 if there are none."""
        wanted = share * sum(self.counts)
        seen = 0
        for bits, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return min((1 << bits) - 1, self.most)
        return 0

    def summary(self):
        """Return ``{"count", "mean", "p50", "p99", "max"}``."""
        count = sum(self.counts)
        return {"count": count, "mean": self.total / count if count else 0,
                "p50": self.quantile(0.5), "p99": self.quantile(0.99), "max": self.most}
