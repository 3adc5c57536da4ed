"""Counters: what the histogram tells of what it was fed."""

from zstreampub.stats import Histogram


def test_a_histogram_tells_quantiles_at_most_twice_too_high():
    histogram = Histogram()
    values = [*range(1, 1000), 50_000]
    for value in values:
        histogram.add(value)

    for share in (0.1, 0.5, 0.9, 0.99, 1):
        right = values[min(int(share * len(values)), len(values) - 1)]
        assert right / 2 <= histogram.quantile(share) <= 2 * right
    assert histogram.summary()["max"] == 50_000
    assert histogram.summary()["count"] == 1000


def test_an_empty_histogram_has_nothing_to_say():
    assert Histogram().summary() == {"count": 0, "mean": 0, "p50": 0, "p99": 0, "max": 0}
