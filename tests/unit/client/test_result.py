"""Queues and send results."""

import random

from ledgermq.client.result import MessageQueue, SendResult, SendStatus

from .builders import queue


def test_send_result_prints_as_the_guides_show_it():
    result = SendResult(
        SendStatus.SEND_OK,
        "C0A81F0129BC18B4AAC24181D05B0000",
        "C0A801CA00002A9F0000000000000000",
        MessageQueue("TopicTest", "broker-b", 0),
        0,
    )
    assert str(result) == (
        "SendResult [sendStatus=SEND_OK, msgId=C0A81F0129BC18B4AAC24181D05B0000,"
        " offsetMsgId=C0A801CA00002A9F0000000000000000, messageQueue=MessageQueue"
        " [topic=TopicTest, brokerName=broker-b, queueId=0], queueOffset=0]"
    )


def test_a_weaker_promise_is_shown():
    result = SendResult(SendStatus.FLUSH_DISK_TIMEOUT, "m", "o", queue(), 7)
    assert "sendStatus=FLUSH_DISK_TIMEOUT" in str(result)
    assert "queueOffset=7" in str(result)


def test_status_numbers_are_the_codes_of_the_wire():
    assert [int(s) for s in SendStatus] == [0, 10, 11, 12]


def test_queues_sort_by_topic_broker_and_number():
    ordered = [
        queue(2, "a"),
        queue(10, "a"),
        queue(0, "b"),
        MessageQueue("U", "a", 0),
    ]
    shuffled = ordered[:]
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled) == ordered
