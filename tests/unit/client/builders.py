"""Short ways to make what the tests handle."""

from ledgermq.client.result import MessageQueue
from ledgermq.remoting.bodies.route import BrokerData, QueueData, TopicRouteData
from ledgermq.remoting.message import MessageExt


def queue(queue_id: int = 0, broker: str = "a", topic: str = "T") -> MessageQueue:
    return MessageQueue(topic, broker, queue_id)


def message(offset: int, body: bytes = b"x", *, tag: str = "", topic: str = "T") -> MessageExt:
    return MessageExt(
        topic=topic,
        queue_id=0,
        queue_offset=offset,
        physical_offset=offset * 100,
        store_size=100,
        body=body,
        tag=tag,
        keys=[],
        properties={},
        flag=0,
        sys_flag=0,
        born_timestamp_ms=0,
        store_timestamp_ms=0,
        born_host="127.0.0.1:1",
        store_host="127.0.0.1:2",
        reconsume_times=0,
        prepared_transaction_offset=0,
        msg_id=f"ID{offset}",
        offset_msg_id="",
    )


def route_data(
    addresses: dict[str, dict[int, str]], *, read: int = 2, write: int = 2, perm: int = 6
) -> TopicRouteData:
    return TopicRouteData(
        queue_datas=[
            QueueData(broker_name=b, read_queue_nums=read, write_queue_nums=write, perm=perm)
            for b in addresses
        ],
        broker_datas=[
            BrokerData(cluster="C", broker_name=b, broker_addrs=a) for b, a in addresses.items()
        ],
    )
