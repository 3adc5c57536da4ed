"""The table of workloads, in the order in which they run."""

from . import batches, coroutines, filters, live, many, outbox, pending, replay, singles, spool, stock, work

WORKLOADS = {one.WORKLOAD.name: one.WORKLOAD for one in (batches, singles, live, stock, many, replay, work, pending,
                                                         coroutines, filters, spool, outbox)}
