"""The methods that a worker answers; all others of the service are refused, and the error says whom to ask."""

from functools import wraps

from ..described import described
from ..service import Service

SERVED = ("subscribe", "unsubscribe", "topics", "get", "last", "subscriptions", "stats", "about")


class WorkerService(Service):
    """The reading part of the :class:`Service` on a WorkerBroker."""

    @described
    def about(self):
        """Return what the writer does, and its endpoints as writer."""
        return {**super().about(), "writer": self._broker.writer}


def _refusing(name, method):
    @wraps(method)
    def refuse(self, *args):
        raise self._broker.not_here(name)
    return refuse


for _name, _method in [(name, getattr(Service, name)) for name in dir(Service) if not name.startswith("_")]:
    if _name not in SERVED:
        setattr(WorkerService, _name, _refusing(_name, _method))
