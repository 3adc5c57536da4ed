"""The table of workloads, in the order in which they run."""

from . import (
    alone,
    batches,
    coroutines,
    day,
    filters,
    growth,
    live,
    live_singles,
    many,
    outbox,
    pending,
    replay,
    scale,
    singles,
    sizes,
    spool,
    startup,
    steady,
    stock,
    stopped,
    throng,
    work,
)

WORKLOADS = {one.WORKLOAD.name: one.WORKLOAD for one in (
    alone, singles, batches, live, live_singles, replay, steady, stopped, sizes, stock, many, work, pending,
    coroutines, filters, spool, outbox, scale, throng, startup, day, growth)}
