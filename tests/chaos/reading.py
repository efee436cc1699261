"""Reading a queue back from one broker, as the checker of the drills."""

from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import request
from ledgermq.remoting.headers.pull import PullMessageRequest
from ledgermq.remoting.message import decode_records
from tests.chaos.load import Acked
from tests.support.cluster import ask

_CARRIES_SUBSCRIPTION = 4


def read_queue(address: str, topic: str, queue_id: int) -> dict[int, str]:
    """Queue offset -> message id of everything a broker serves."""
    found: dict[int, str] = {}
    offset = 0
    while True:
        header = PullMessageRequest(
            consumer_group="TOOLS_CONSUMER",
            topic=topic,
            queue_id=queue_id,
            queue_offset=offset,
            max_msg_nums=32,
            sys_flag=_CARRIES_SUBSCRIPTION,
            commit_offset=0,
            suspend_timeout_millis=0,
            sub_version=0,
            subscription="*",
        )
        reply = ask(address, request(RequestCode.PULL_MESSAGE, header.to_ext()))
        if reply.code != ResponseCode.SUCCESS:
            return found
        for message in decode_records(reply.body):
            assert message.queue_offset not in found
            found[message.queue_offset] = message.msg_id
        offset = int(reply.ext["nextBeginOffset"])


def missing(address: str, topic: str, acked: list[Acked]) -> list[Acked]:
    """The acknowledged messages that a broker does not serve where their answers said."""
    queues = {q: read_queue(address, topic, q) for q in {a.queue_id for a in acked}}
    for queue in queues.values():
        assert sorted(queue) == list(range(len(queue))), "queue offsets are not dense"
    return [a for a in acked if queues[a.queue_id].get(a.queue_offset) != a.msg_id]
