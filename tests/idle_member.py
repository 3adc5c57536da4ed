"""A process that joins a consumer and settles nothing: ``python -m tests.idle_member ENDPOINT CONSUMER``."""

import sys

import gevent

from zstreampub.client import Client

if __name__ == "__main__":
    client = Client(sys.argv[1])
    consumption = client.consume(None, sys.argv[2])
    print('"joined"', flush=True)
    while True:
        gevent.sleep(1)
