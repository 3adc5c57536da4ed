"""A picture of what was measured: throughput by batch length, and latency at a steady rate by percentile."""

import statistics

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

from .workloads import WORKLOADS, sizes, steady

_SHARES = [0.5, 0.9, 0.99, 0.999]


def draw(measured, facts, path):
    """Write *measured*, as run.py keeps it, to *path*; raise SystemExit if it has nothing that can be drawn."""
    drawn = [(plot, measured[name]) for name, plot in (("sizes", _draw_sizes), ("steady", _draw_steady))
             if name in measured]
    if not drawn:
        raise SystemExit("--picture shows the workloads 'sizes' and 'steady': name one of them, or none for all.")
    figure, panes = pyplot.subplots(1, len(drawn), figsize=(7.5 * len(drawn), 5), squeeze=False, layout="constrained")
    for pane, (plot, rounds) in zip(panes[0], drawn):
        plot(pane, rounds)
        pane.grid(alpha=0.3, which="both")
        pane.legend(fontsize=8)
    figure.suptitle(f"{facts['system']}, Python {facts['python']}, fdatasync {facts['fdatasync_us']:.0f} us, "
                    f"{facts['time']}", fontsize=9)
    figure.savefig(path, dpi=120)


def _draw_sizes(pane, rounds):
    for peer in sizes.PEERS:
        found = [(length, _median(rounds, sizes.name(peer, length), "rate")) for length in sizes.LENGTHS]
        _line(pane, [pair for pair in found if pair[1]], f"{peer.name} ({peer.durability.partition(':')[0]})")
    pane.set(xscale="log", yscale="log", xlabel="messages in a batch", ylabel="messages/s",
             title="Publish: messages of 100 bytes by length of the batch")
    pane.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _draw_steady(pane, rounds):
    for case in WORKLOADS["steady"].cases:
        runs = [figures[case.name][steady.HISTOGRAM] for figures in rounds if case.name in figures]
        if runs:
            steps = [statistics.median(run[at] for run in runs) / 1000 for at in range(1001)]
            places = [at for at in range(1000) if at / 1000 <= _SHARES[-1]]
            _line(pane, [(1 / (1 - at / 1000), steps[at]) for at in places],
                  f"{case.name} ({case.durability.partition(':')[0]})", marker="")
    pane.set(xscale="log", yscale="log", xlabel="percentile", ylabel="milliseconds from due to delivered",
             title="Latency at 1,000 messages/s to 10 subscribers")
    pane.set_xticks([1 / (1 - share) for share in _SHARES], [f"p{share * 100:g}" for share in _SHARES])


def _median(rounds, case, figure):
    found = [figures[case][figure] for figures in rounds if case in figures]
    return statistics.median(found) if found else None


def _line(pane, points, label, marker="o"):
    if points:
        pane.plot(*zip(*points), marker=marker, label=label, linewidth=2.5 if label.startswith("zstreampub") else 1.3)
