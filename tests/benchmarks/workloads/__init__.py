"""The table of workloads, in the order in which they run."""

from . import (
    alone,
    batches,
    coroutines,
    live,
    live_singles,
    many,
    pending,
    replay,
    singles,
    sizes,
    steady,
    stock,
    stopped,
    work,
)

WORKLOADS = {one.WORKLOAD.name: one.WORKLOAD for one in (
    alone, singles, batches, live, live_singles, replay, steady, stopped, sizes, stock, many, work, pending,
    coroutines)}
