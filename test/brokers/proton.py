"""
The other side of proton.test.ts: reads requests from stdin, one JSON value a line, and answers each with a line.

Values are given as [type, value], integers and timestamps as text, all that is no JSON as the hexadecimal of its bytes:
["uint", "7"], ["list", [...]], ["map", [key, value, ...]], ["described", [descriptor, value]],
["array", [element type, descriptor or null, [...]]].
"""

import json
import os
import struct
import sys
from uuid import UUID

from proton import Data, Message, SSLDomain, Url, symbol
from proton.reactor import ReceiverOption
from proton.utils import BlockingConnection

TIMEOUT = 15
INTEGERS = ["ubyte", "ushort", "uint", "ulong", "byte", "short", "int", "long", "timestamp"]
FLOATS = {"float": ">f", "double": ">d"}
DECIMALS = {"decimal32": 4, "decimal64": 8, "decimal128": 16}
NAMES = {"boolean": "bool"}
TYPES = ["null", "boolean", "char", "uuid", "binary", "string", "symbol", "list", "map", "described", "array"]
TYPES += [*INTEGERS, *FLOATS, *DECIMALS]


def code(name):
    return getattr(Data, NAMES.get(name, name).upper())


NAME_OF = {code(name): name for name in TYPES}


def put(data, tree):
    name, value = tree
    write = getattr(data, "put_" + NAMES.get(name, name))
    if name == "null":
        write()
    elif name in INTEGERS:
        write(int(value))
    elif name in FLOATS:
        write(struct.unpack(FLOATS[name], bytes.fromhex(value))[0])
    elif name == "decimal128":
        write(bytes.fromhex(value))
    elif name in DECIMALS:
        write(int(value, 16))
    elif name == "uuid":
        write(UUID(hex=value))
    elif name == "binary":
        write(bytes.fromhex(value))
    elif name in ("list", "map", "described"):
        write()
        put_all(data, value)
    elif name == "array":
        element, descriptor, values = value
        write(descriptor is not None, code(element))
        put_all(data, values if descriptor is None else [descriptor, *values])
    else:
        write(value)


def put_all(data, trees):
    data.enter()
    for tree in trees:
        put(data, tree)
    data.exit()


def get(data):
    name = NAME_OF[data.type()]
    if name in ("list", "map", "described"):
        return [name, get_all(data)]
    if name == "array":
        _, described, element = data.get_array()
        values = get_all(data)
        return [name, [NAME_OF[element], values.pop(0) if described else None, values]]
    if name == "null":
        return [name, None]
    value = getattr(data, "get_" + NAMES.get(name, name))()
    if name in INTEGERS:
        value = str(int(value))
    elif name in FLOATS:
        value = struct.pack(FLOATS[name], value).hex()
    elif name == "decimal128":
        value = bytes(value).hex()
    elif name in DECIMALS:
        value = format(int(value), "x").zfill(DECIMALS[name] * 2)
    elif name == "uuid":
        value = value.hex
    elif name == "binary":
        value = bytes(value).hex()
    return [name, value]


def get_all(data):
    trees = []
    data.enter()
    while data.next():
        trees.append(get(data))
    data.exit()
    return trees


def to_object(tree):
    """The Python object that Proton has for a value."""
    data = Data()
    put(data, tree)
    data.rewind()
    data.next()
    return data.get_object()


def to_tree(value):
    data = Data()
    data.put_object(value)
    data.rewind()
    data.next()
    return get(data)


SAME = ["durable", "priority", "first_acquirer", "delivery_count", "subject", "reply_to", "group_id"]
SAME += ["group_sequence", "reply_to_group_id", "content_type", "content_encoding"]
RENAMED = {"to": "address"}
SECONDS = {"ttl": "ttl", "absolute_expiry_time": "expiry_time", "creation_time": "creation_time"}
IDS = {"message_id": "id", "correlation_id": "correlation_id"}
TREES = {"delivery_annotations": "instructions", "message_annotations": "annotations"}
TREES["application_properties"] = "properties"


def to_message(fields, body, inferred):
    message = Message(to_object(body), inferred=inferred)
    for name, value in fields.items():
        if name in SECONDS:
            setattr(message, SECONDS[name], value / 1000)
        elif name in IDS or name in TREES:
            setattr(message, IDS.get(name) or TREES[name], to_object(value))
        elif name == "user_id":
            message.user_id = bytes.fromhex(value)
        else:
            setattr(message, RENAMED.get(name, name), value)
    return message


def of_message(message):
    fields = {name: getattr(message, RENAMED.get(name, name)) for name in SAME + list(RENAMED)}
    fields.update({name: round(getattr(message, attribute) * 1000) for name, attribute in SECONDS.items()})
    fields.update({name: to_tree(getattr(message, attribute)) for name, attribute in TREES.items()})
    for name, attribute in IDS.items():
        value = getattr(message, attribute)
        # an id that is a number is a ulong, but Proton makes a plain int of it
        fields[name] = ["ulong", str(value)] if isinstance(value, int) else to_tree(value)
    fields["user_id"] = bytes(message.user_id).hex()
    return {"fields": fields, "body": to_tree(message.body), "inferred": message.inferred}


def connect(url):
    mechanism = "PLAIN" if Url(url).username else "ANONYMOUS"
    domain = None
    if "PROTON_CA" in os.environ:
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(os.environ["PROTON_CA"])
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
    return BlockingConnection(url, timeout=TIMEOUT, allowed_mechs=mechanism, ssl_domain=domain)


def encode(tree):
    data = Data()
    put(data, tree)
    return data.encode().hex()


def decode(encoded):
    data = Data()
    raw = bytes.fromhex(encoded)
    if data.decode(raw) != len(raw):
        raise ValueError("bytes are left over")
    data.rewind()
    data.next()
    return get(data)


def send(url, address, messages):
    connection = connect(url)
    sender = connection.create_sender(address, name="proton-sender")
    for message in messages:
        sender.send(to_message(**message))
    connection.close()


def take(receiver, count):
    messages = []
    for _ in range(count):
        messages.append(receiver.receive(timeout=TIMEOUT))
        receiver.accept()
    return messages


def receive(url, address, count):
    connection = connect(url)
    receiver = connection.create_receiver(address, credit=count, name="proton-receiver")
    messages = take(receiver, count)
    connection.close()
    return [of_message(message) for message in messages]


class TemporaryQueue(ReceiverOption):
    """What some brokers want to be asked for before they make an address."""

    def apply(self, receiver):
        receiver.source.capabilities.put_object(symbol("temporary-queue"))


def request(url, address, messages):
    """Sends requests with an address of the broker's making as reply-to. That address, and a reply for each."""
    connection = connect(url)
    options = TemporaryQueue()
    receiver = connection.create_receiver(None, credit=len(messages), dynamic=True, name="replies", options=options)
    reply_to = receiver.link.remote_source.address
    sender = connection.create_sender(address, name="requests")
    for message in messages:
        asked = to_message(**message)
        asked.reply_to = reply_to
        sender.send(asked)
    replies = [of_message(reply) for reply in take(receiver, len(messages))]
    connection.close()
    return {"reply_to": reply_to, "replies": replies}


def serve(url, address, count, correlation, relay):
    """Takes requests, and replies to each with its own body, the last first. The requests."""
    connection = connect(url)
    receiver = connection.create_receiver(address, credit=count, name="service")
    requests = take(receiver, count)
    senders = {}
    for asked in reversed(requests):
        target = None if relay else asked.reply_to
        if target not in senders:
            senders[target] = connection.create_sender(target, name=f"answers-{len(senders)}")
        reply = Message(asked.body, inferred=asked.inferred, correlation_id=getattr(asked, IDS[correlation]))
        reply.address = asked.reply_to
        senders[target].send(reply)
    connection.close()
    return [of_message(asked) for asked in requests]


COMMANDS = {"encode": encode, "decode": decode, "send": send, "receive": receive, "request": request, "serve": serve}

for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = {"result": COMMANDS[name](*arguments)}
    except Exception as error:  # the test is to say what went wrong
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
