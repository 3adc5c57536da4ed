"""How long things took: exact percentiles, and a histogram for JSON and for the terminal."""

from array import array

SHARES = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
_STEP = 2 ** 0.5        # of a bucket of the histogram to the next
_MOST_ROWS = 24
_BLOCKS = " ▏▎▍▌▋▊▉█"


class Delays:
    """Durations, added in seconds, told in microseconds; 8 bytes for each."""

    def __init__(self):
        self._seconds = array("d")
        self.add = self._seconds.append     # called for every message

    def __len__(self):
        return len(self._seconds)

    def summary(self):
        """Return ``{"p50_us", ..., "max_us"}``, microseconds that a share of all do not exceed; {} of none."""
        ordered = sorted(self._seconds)
        if not ordered:
            return {}
        return {name: round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e6, 1)
                for name, share in SHARES.items()}

    def histogram(self):
        """Return ``[(first_us, next_us, count), ...]``: some 24 buckets at most, without holes, growing."""
        if not self._seconds:
            return []
        ordered = sorted(self._seconds)
        least, most = max(ordered[0] * 1e6, 1.0), max(ordered[-1] * 1e6, 1.0)
        step = max(_STEP, (most / least * 1.01) ** (1 / _MOST_ROWS))
        edges = [_rounded(least)]
        while edges[-1] <= most:
            edges.append(edges[-1] * step)
        counts = [0] * (len(edges) - 1)
        bucket = 0
        for seconds in ordered:
            while seconds * 1e6 >= edges[bucket + 1]:
                bucket += 1
            counts[bucket] += 1
        return [(round(first, 1), round(next, 1), count) for first, next, count in zip(edges, edges[1:], counts)]


def _rounded(us):
    """Return a round number just below *us*: the first two of its digits."""
    digit = 10 ** max(len(str(int(us))) - 2, 0)
    return us // digit * digit


def bars(histogram, width):
    """Yield a line for each bucket of *histogram*, at most *width* characters wide."""
    labels = [f"{duration(first)} to {duration(next)}" for first, next, _ in histogram]
    counts = [f"{count:,}" for _, _, count in histogram]
    wide, deep = max(map(len, labels)), max(map(len, counts))
    room = max(width - wide - deep - 6, 8)
    most = max(count for _, _, count in histogram)
    for label, count, (_, _, number) in zip(labels, counts, histogram):
        yield f"  {label:>{wide}}  {count:>{deep}}  {_bar(number / most, room)}".rstrip()


def _bar(share, room):
    eighths = max(round(share * room * 8), 1) if share else 0
    return _BLOCKS[-1] * (eighths // 8) + (_BLOCKS[eighths % 8] if eighths % 8 else "")


def duration(us):
    """Return so many microseconds as people read them."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} us"
