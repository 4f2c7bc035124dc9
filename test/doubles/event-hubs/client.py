"""
Microsoft's client for Python as a process of its own. client.mjs does the same with the client for JavaScript.
"""

import threading
import time
from datetime import datetime, timezone

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient
from serve import close_in_background, milliseconds, serve, text

OPTIONS = {"retry_total": 2, "retry_backoff_factor": 0.001}

where = None
producer = None
# by their names: the client, and what has come of it
receivers = {}


def told(partition, each, last):
    return {
        "body": each.body_as_str(),
        "partition": partition,
        "sequenceNumber": each.sequence_number,
        "offset": each.offset,
        "partitionKey": text(each.partition_key),
        "enqueuedAt": milliseconds(each.enqueued_time),
        "properties": {text(name): text(value) for name, value in (each.properties or {}).items()},
        "last": {"sequenceNumber": last["sequence_number"], "offset": last["offset"]} if last else None,
    }


def event(fields):
    one = EventData(fields["body"])
    one.properties = fields.get("properties") or {}
    return one


def start_of(asked):
    if "enqueuedAt" in asked:
        return datetime.fromtimestamp(asked["enqueuedAt"] / 1000, timezone.utc)
    return asked["offset"] if "offset" in asked else asked["sequenceNumber"]


def taken(some, count, wait):
    """Waits until there are so many, or it has waited for so long, in milliseconds."""
    end = time.time() + wait / 1000
    while len(some) < count and time.time() < end:
        time.sleep(0.005)
    first, some[:count] = some[:count], []
    return first


def open_client(connection_string, hub):
    global where, producer
    where = {"conn_str": connection_string, "eventhub_name": hub, **OPTIONS}
    producer = EventHubProducerClient.from_connection_string(**where)


def send(events, options=None):
    options = options or {}
    to = {"partition_id": options.get("partition"), "partition_key": options.get("partitionKey")}
    if not options.get("batch"):
        return producer.send_event(event(events[0]), **to)
    batch = producer.create_batch(**to)
    for each in events:
        batch.add(event(each))
    producer.send_batch(batch)


def hub():
    properties = producer.get_eventhub_properties()
    return {
        "name": properties["eventhub_name"],
        "createdAt": milliseconds(properties["created_at"]),
        "partitions": properties["partition_ids"],
    }


def partition(id):
    properties = producer.get_partition_properties(id)
    return {
        "hub": properties["eventhub_name"],
        "id": properties["id"],
        "first": properties["beginning_sequence_number"],
        "last": properties["last_enqueued_sequence_number"],
        "lastOffset": properties["last_enqueued_offset"],
        "lastAt": milliseconds(properties["last_enqueued_time_utc"]),
        "isEmpty": properties["is_empty"],
    }


def receiver(name, asked):
    events, errors = [], []
    # what is lost is tried again in this time, and not in half a minute
    options = {**where, "load_balancing_interval": 0.1, "retry_total": asked.get("retries", 2)}
    client = EventHubConsumerClient.from_connection_string(consumer_group=asked.get("group", "$Default"), **options)
    receivers[name] = {"client": client, "events": events, "errors": errors}

    def on_event(context, each):
        events.append(told(context.partition_id, each, context.last_enqueued_event_properties))

    def on_error(_context, error):
        errors.append(f"{type(error).__name__}: {error}")

    options = {
        "on_event": on_event,
        "on_error": on_error,
        "partition_id": asked.get("partition"),
        "owner_level": asked.get("epoch"),
        "track_last_enqueued_event_properties": asked.get("metrics", False),
        "starting_position": start_of(asked),
        "starting_position_inclusive": asked.get("isInclusive", False),
    }
    threading.Thread(target=client.receive, kwargs=options, daemon=True).start()


def receive(name, count, wait):
    return taken(receivers[name]["events"], count, wait)


def failure(name, wait):
    errors = taken(receivers[name]["errors"], 1, wait)
    return errors[0] if errors else None


def close():
    close_in_background([producer, *(receiver["client"] for receiver in receivers.values())])
    receivers.clear()


OPERATIONS = {
    "open": open_client,
    "send": send,
    "hub": hub,
    "partition": partition,
    "receiver": receiver,
    "receive": receive,
    "failure": failure,
    "close": close,
}

serve(OPERATIONS)
