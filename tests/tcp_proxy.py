"""A TCP proxy for one port, to be stopped with SIGSTOP: the network that vanishes without a FIN.

``python -m tests.tcp_proxy HOST:PORT`` says its own endpoint as a JSON line.
"""

import json
import sys

import gevent
from gevent import socket
from gevent.server import StreamServer


def _copy(source, sink):
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass
    source.close()
    sink.close()


def _serve(target):
    def handle(near, _):
        far = socket.create_connection(target)
        gevent.joinall([gevent.spawn(_copy, near, far), gevent.spawn(_copy, far, near)])
    return handle


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    server = StreamServer(("127.0.0.1", 0), _serve((host, int(port))))
    server.start()
    print(json.dumps({"endpoint": f"tcp://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()
