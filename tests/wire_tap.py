"""A TCP proxy in the test's own process: it counts the bytes of each way, and can damage what comes down."""

import gevent
from gevent import socket
from gevent.server import StreamServer


class WireTap:
    """Between a client and the server at *endpoint*. Use it as a context manager.

    ``damage(data)`` is given what comes from the server and returns what goes on to the client.
    """

    def __init__(self, endpoint):
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._target = host, int(port)
        self.up_bytes = self.down_bytes = 0
        self.damage = bytes
        self._server = StreamServer(("127.0.0.1", 0), self._handle)
        self._server.start()
        self.endpoint = f"tcp://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop(timeout=0)

    def _handle(self, near, _):
        far = socket.create_connection(self._target)
        gevent.joinall([gevent.spawn(self._copy, near, far, self._up), gevent.spawn(self._copy, far, near, self._down)])

    def _up(self, data):
        self.up_bytes += len(data)
        return data

    def _down(self, data):
        self.down_bytes += len(data)
        return self.damage(data)

    @staticmethod
    def _copy(source, sink, taken):
        try:
            while data := source.recv(65_536):
                sink.sendall(taken(data))
        except OSError:
            pass
        source.close()
        sink.close()
