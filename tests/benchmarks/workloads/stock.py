"""One stock zerorpc client receives messages as maps, and stock clients publish: only the server differs."""

from functools import partial

from .. import recipe
from ..payloads import BATCH, Runs, Singles
from ..workload import FSYNC, NONE, Case, Ratio, Workload, figures

_BATCHES = 60
_SINGLES, _PUBLISHERS, _CALLERS = 9_600, 3, 64


def _ours(measure, stage, scale):
    return measure(stage, stage.serve(), scale)


def _recipe(measure, stage, scale):
    return measure(stage, recipe.start(stage), scale)


def _batches(stage, endpoint, scale):
    batches = scale.of(_BATCHES)
    reader = stage.start(recipe.subscribe, endpoint, 1, batches * BATCH, Runs)
    publisher = stage.start(recipe.publish_batches, endpoint, 0, batches)
    return figures(stage.run([publisher], [reader]), batches * BATCH)


def _singles(stage, endpoint, scale):
    share = scale.of(_SINGLES) // _CALLERS * _CALLERS
    reader = stage.start(recipe.subscribe, endpoint, 1, _PUBLISHERS * share, Singles)
    publishers = [stage.start(recipe.publish_singles, endpoint, source, _CALLERS, share)
                  for source in range(_PUBLISHERS)]
    return figures(stage.run(publishers, [reader]), _PUBLISHERS * share)


WORKLOAD = Workload(
    "stock", "One stock zerorpc client receives maps", "deliveries/s",
    [
        Case("zstreampub, batches published", FSYNC, partial(_ours, _batches)),
        Case("zerorpc recipe, batches published", NONE, partial(_recipe, _batches)),
        Case("zstreampub, singles published", FSYNC, partial(_ours, _singles)),
        Case("zerorpc recipe, singles published", NONE, partial(_recipe, _singles)),
    ],
    [
        Ratio("zstreampub, batches published", "zerorpc recipe, batches published", "2.5"),
        Ratio("zstreampub, singles published", "zerorpc recipe, singles published", "2.5"),
    ],
)
