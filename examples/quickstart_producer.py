"""Send 1,000 messages to TopicTest and print where each one went.

The name server is taken from NAMESRV_ADDR, else localhost:9876.
"""

import argparse
import asyncio
import sys

from ledgermq import ClientError, Producer

MESSAGES = 1000


async def run(count: int) -> None:
    """Send `count` messages, one after the other."""
    async with Producer("please_rename_unique_group_name") as producer:
        for i in range(count):
            try:
                print(await producer.send("TopicTest", f"Hello RocketMQ {i}", tag="TagA"))
            except ClientError as e:
                print(e, file=sys.stderr)
                await asyncio.sleep(1)


def main() -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=MESSAGES, help="messages to send")
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
