"""
What a client for Python is driven by: reads requests from stdin, one JSON value a line ([operation, parameters...]), and
answers each with a line. serve.mjs does the same for JavaScript.
"""

import contextlib
import json
import logging
import sys
import threading

# what goes wrong is told in the answer
logging.disable()


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def milliseconds(time):
    return None if time is None else round(time.timestamp() * 1000)


def close_in_background(clients):
    """Each close waits for a thread of the client that sleeps by the second."""
    for each in clients:
        threading.Thread(target=close_quietly, args=[each], daemon=True).start()


def close_quietly(client):
    # the server may be gone before
    with contextlib.suppress(Exception):
        client.close()


def serve(operations):
    for line in sys.stdin:
        name, *parameters = json.loads(line)
        try:
            answer = {"result": operations[name](*parameters)}
        except Exception as error:  # all that a client throws is an answer
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), flush=True)
