"""The plain client as a process: ``python -m tests.interop.plain_process ENDPOINT OPTIONS``; says JSON lines."""

import json
import sys

from tests.interop.plain_client import Client, Failed, Lost


def main(endpoint, options):
    start, where = options.get("start", "earliest"), {}
    while True:
        client = Client(endpoint, heartbeat_s=0.5)
        try:
            for item in client.subscribe(options["patterns"], start=start, **where):
                print(json.dumps(item), flush=True)
                if item.get("control") == "subscribed":
                    where = {"epoch": item["epoch"]}
                if "payload" in item:
                    start = item["offset"] + 1
        except Lost:
            if options.get("resume"):
                continue
            print(json.dumps({"control": "", "ended": "Lost"}), flush=True)
        except Failed as error:
            print(json.dumps({"control": "", "ended": error.args[0]}), flush=True)
        return


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
