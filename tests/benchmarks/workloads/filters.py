"""What filters in the server cost on messages that all pass: with and without, live and from the log."""

from functools import partial

from .. import maps
from ..payloads import BATCH
from ..workload import FSYNC, LOG, Case, Ratio, Workload, figures

_BATCHES = 1000
_HEADERS = {"region": "eu"}

_FILTERS = {
    "max_size": {"max_size": 1000},
    "every": {"every": 1},
    "where payload": {"where": {"payload.total": {"ge": 10, "lt": 100}}},
    "min_period by payload": {"min_period": 0.125, "by": "payload.at"},
}


def _live(filters, headers, stage, scale):
    endpoint, batches = stage.serve(), scale.of(_BATCHES)
    reader = stage.start(maps.read_maps, endpoint, batches * BATCH, filters, "new")
    publisher = stage.start(maps.publish_maps, endpoint, batches, headers)
    return figures(stage.run([publisher], [reader]), batches * BATCH)


def _replay(filters, headers, stage, scale):
    endpoint, batches = stage.serve(), scale.of(_BATCHES)
    stage.run([stage.start(maps.publish_maps, endpoint, batches, headers)])
    return figures(stage.run([stage.start(maps.read_maps, endpoint, batches * BATCH, filters, "earliest")]),
                   batches * BATCH)


def _cases(run, how, durability):
    yield Case(f"{how}, no filter", durability, partial(run, None, None))
    for name, one in _FILTERS.items():
        yield Case(f"{how}, {name}", durability, partial(run, one, None))
    yield Case(f"{how} with headers, no filter", durability, partial(run, None, _HEADERS))
    yield Case(f"{how} with headers, where headers", durability,
               partial(run, {"where": {"headers.region": "eu"}}, _HEADERS))


def _ratios(how):
    for name in _FILTERS:
        yield Ratio(f"{how}, {name}", f"{how}, no filter", "0.9")
    yield Ratio(f"{how} with headers, where headers", f"{how} with headers, no filter", "0.9")


WORKLOAD = Workload(
    "filters", "Filters in the server that pass everything: batches of 1,000 maps, one subscriber", "deliveries/s",
    [*_cases(_live, "live", FSYNC), *_cases(_replay, "replay", LOG)],
    [*_ratios("live"), *_ratios("replay")],
)
