"""Where a worker listens. Pure functions of endpoints."""

from ..errors import InvalidOption

_MOST_PORT = 65_535


def beside(endpoint, number):
    """Return where worker *number* (1 for the first) listens if the writer was told to listen on *endpoint*.

    On the port so far after the writer's; port 0 stays 0, for any. A path gets ``.1``.
    """
    if not endpoint.startswith("tcp://"):
        return f"{endpoint}.{number}"
    host, colon, port = endpoint.rpartition(":")
    if not port.isdigit() or not int(port):
        return endpoint
    if int(port) + number > _MOST_PORT:
        raise InvalidOption(f"There is no port for worker {number} so far after {endpoint}; say where it listens.",
                            option="worker_bind")
    return f"{host}{colon}{int(port) + number}"
