"""Print the messages of TopicTest as they come, until Ctrl-C.

The name server is taken from NAMESRV_ADDR, else localhost:9876.
"""

import argparse
import asyncio
import sys

from ledgermq import ClientError, Consumer, MessageExt


def describe(message: MessageExt) -> str:
    """One line about a message, as RocketMQ's own quickstart shows it."""
    return (
        f"MessageExt [brokerName={message.broker_name}, queueId={message.queue_id},"
        f" storeSize={message.store_size}, queueOffset={message.queue_offset},"
        f" bornTimestamp={message.born_timestamp_ms}, bornHost={message.born_host},"
        f" storeTimestamp={message.store_timestamp_ms}, storeHost={message.store_host},"
        f" msgId={message.msg_id}, offsetMsgId={message.offset_msg_id},"
        f" commitLogOffset={message.physical_offset}, reconsumeTimes={message.reconsume_times},"
        f" topic={message.topic}, tags={message.tag}, keys={' '.join(message.keys)},"
        f" body={message.body.decode(errors='replace')}]"
    )


async def run(count: int | None) -> None:
    """Print messages; `count` of them, or without end."""
    seen = 0
    group = "please_rename_unique_group_name_4"
    async with Consumer(group, {"TopicTest": "*"}, start="earliest") as consumer:
        print("Consumer Started.", flush=True)
        async for message in consumer:
            print(f"Receive New Messages: [{describe(message)}]", flush=True)
            seen += 1
            if seen == count:
                break


def main() -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, help="stop after so many messages")
    try:
        asyncio.run(run(parser.parse_args().count))
    except ClientError as e:
        print(e, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
