"""
Microsoft's client for Python as a process of its own. client.mjs does the same with the client for JavaScript.
"""

from datetime import datetime, timedelta, timezone

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage
from azure.servicebus import ServiceBusReceiveMode, ServiceBusSubQueue
from serve import close_in_background, milliseconds, serve, text

client = None
senders = {}
receivers = {}
# what was received, by the numbers that stand for it in requests
received = []

OPTIONS = {"retry_total": 1, "retry_backoff_factor": 0.001}
STATES = ["active", "deferred", "scheduled"]


def sender(entity):
    if entity not in senders:
        # a sender for a queue sends to topics as well
        senders[entity] = client.get_queue_sender(entity)
    return senders[entity]


def after(delay):
    return datetime.now(timezone.utc) + timedelta(milliseconds=delay)


def message(fields):
    return ServiceBusMessage(
        fields["body"],
        message_id=fields.get("id"),
        session_id=fields.get("sessionId"),
        time_to_live=timedelta(milliseconds=fields["ttl"]) if "ttl" in fields else None,
        application_properties=fields.get("properties"),
        scheduled_enqueue_time_utc=after(fields["scheduledIn"]) if "scheduledIn" in fields else None,
    )


def told(each):
    received.append(each)
    return {
        "handle": len(received) - 1,
        "id": each.message_id,
        "body": str(each),
        "sequenceNumber": each.sequence_number,
        "deliveryCount": each.delivery_count,
        "sessionId": each.session_id,
        "properties": {text(name): text(value) for name, value in (each.application_properties or {}).items()},
        "state": STATES[each.state],
        "reason": each.dead_letter_reason,
        "description": each.dead_letter_error_description,
        "enqueuedAt": milliseconds(each.enqueued_time_utc),
        "lockedUntil": milliseconds(getattr(each, "locked_until_utc", None)),
    }


def open_client(connection_string):
    global client
    client = ServiceBusClient.from_connection_string(connection_string, **OPTIONS)


def send(entity, messages, options=None):
    if not (options or {}).get("batch"):
        return sender(entity).send_messages(message(messages[0]))
    batch = sender(entity).create_message_batch()
    for each in messages:
        batch.add_message(message(each))
    sender(entity).send_messages(batch)


def receiver(name, asked):
    options = {
        "receive_mode": ServiceBusReceiveMode.RECEIVE_AND_DELETE
        if asked.get("receiveAndDelete")
        else ServiceBusReceiveMode.PEEK_LOCK,
    }
    if asked.get("deadLetters"):
        options["sub_queue"] = ServiceBusSubQueue.DEAD_LETTER
    if "session" in asked:
        options["session_id"] = asked["session"] or NEXT_AVAILABLE_SESSION
    if "queue" in asked:
        receivers[name] = client.get_queue_receiver(asked["queue"], **options)
    else:
        receivers[name] = client.get_subscription_receiver(asked["topic"], asked["subscription"], **options)
    if "session" not in asked:
        return None
    # it attaches at its first use otherwise
    receivers[name].__enter__()
    return receivers[name].session.session_id


def receive(name, count, wait):
    return [told(each) for each in receivers[name].receive_messages(count, max_wait_time=wait / 1000)]


def settle(name, handle, outcome, options=None):
    one = received[handle]
    if outcome == "complete":
        receivers[name].complete_message(one)
    if outcome == "abandon":
        receivers[name].abandon_message(one)
    if outcome == "defer":
        receivers[name].defer_message(one)
    if outcome == "dead-letter":
        reason = {"reason": options.get("reason"), "error_description": options.get("description")}
        receivers[name].dead_letter_message(one, **reason)


def renew(name, handle):
    return milliseconds(receivers[name].renew_message_lock(received[handle]))


def receive_deferred(name, numbers):
    return [told(each) for each in receivers[name].receive_deferred_messages(numbers)]


def peek(name, count):
    return [told(each) for each in receivers[name].peek_messages(count)]


def schedule(entity, messages, delay):
    return sender(entity).schedule_messages([message(each) for each in messages], after(delay))


def cancel(entity, numbers):
    sender(entity).cancel_scheduled_messages(numbers)


def state(name):
    return text(receivers[name].session.get_state())


def set_state(name, value):
    receivers[name].session.set_state(value)


def renew_session(name):
    return milliseconds(receivers[name].session.renew_lock())


def close_receiver(name):
    receivers[name].close()


def close():
    close_in_background([*receivers.values(), *senders.values(), client])
    receivers.clear()
    senders.clear()


OPERATIONS = {
    "open": open_client,
    "send": send,
    "receiver": receiver,
    "receive": receive,
    "settle": settle,
    "renew": renew,
    "receiveDeferred": receive_deferred,
    "peek": peek,
    "schedule": schedule,
    "cancel": cancel,
    "state": state,
    "setState": set_state,
    "renewSession": renew_session,
    "closeReceiver": close_receiver,
    "close": close,
}

serve(OPERATIONS)
