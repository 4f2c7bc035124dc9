"""
What a client for Python is driven by: reads requests from stdin, one JSON value a line ([operation, parameters...]), and
answers each with a line. serve.mjs does the same for JavaScript.
"""

import json
import logging
import sys

# what goes wrong is told in the answer
logging.disable()


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def milliseconds(time):
    return None if time is None else round(time.timestamp() * 1000)


def serve(operations):
    for line in sys.stdin:
        name, *parameters = json.loads(line)
        try:
            answer = {"result": operations[name](*parameters)}
        except Exception as error:  # all that a client throws is an answer
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), flush=True)
