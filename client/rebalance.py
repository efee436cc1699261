"""Which member of a consumer group reads which queues. Pure.

Every member computes the shares for itself; they agree because all sort the same names.
"""

from collections.abc import Collection

from .result import MessageQueue


def allocate(
    queues: Collection[MessageQueue], members: Collection[str], me: str
) -> list[MessageQueue]:
    """The queues of member `me`: contiguous blocks, the first members get one more.

    A member that the broker does not list yet gets nothing: the others do not count it either.

    Source: AllocateMessageQueueAveragely of RocketMQ 4.9, the default strategy of its clients,
    which may be members of the same group.
    """
    names = sorted(set(members))
    if me not in names:
        return []
    rank = names.index(me)
    share, extra = divmod(len(set(queues)), len(names))
    start = rank * share + min(rank, extra)
    return sorted(set(queues))[start : start + share + (rank < extra)]
