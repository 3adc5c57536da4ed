"""One stock zerorpc client receives messages as maps."""

from functools import partial

from .. import actors, recipe
from ..payloads import BATCH
from ..stage import free_endpoint
from ..workload import FSYNC, NONE, Case, Ratio, Workload, figures

_BATCHES = 60


def _ours(publish, stage, scale):
    return _measure(stage, stage.serve(), publish, scale.of(_BATCHES))


def _recipe(stage, scale):
    endpoint = free_endpoint()
    stage.start_server(recipe.serve, endpoint)
    return _measure(stage, endpoint, recipe.publish_batches, max(scale.of(_BATCHES) // 2, 1))


def _measure(stage, endpoint, publish, batches):
    reader = stage.start(recipe.subscribe, endpoint, [0], batches * BATCH)
    publisher = stage.start(publish, endpoint, 0, batches)
    return figures(stage.run([publisher], [reader]), batches * BATCH)


WORKLOAD = Workload(
    "stock", "One stock zerorpc client receives maps", "deliveries/s",
    [
        Case("zstreampub", FSYNC, partial(_ours, actors.publish_batches)),
        Case("zstreampub, stock publisher", FSYNC, partial(_ours, recipe.publish_batches)),
        Case("zerorpc recipe", NONE, _recipe),
    ],
    [
        Ratio("zstreampub", "zerorpc recipe", "2.5"),
        Ratio("zstreampub, stock publisher", "zerorpc recipe"),
    ],
)
