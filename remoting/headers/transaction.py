"""Ending a transaction, and asking a producer how one went."""

import msgspec

from .base import Header, Int32, Int64


class EndTransactionRequest(Header):
    """Code 37, one-way.

    Attributes:
        tran_state_table_offset: queue offset of the half message.
        commit_log_offset: its commitlog offset.
        commit_or_rollback: 8 commit, 12 rollback, 0 not known yet.
    """

    producer_group: str
    tran_state_table_offset: Int64
    commit_log_offset: Int64
    commit_or_rollback: Int32
    msg_id: str
    from_transaction_check: bool = False
    transaction_id: str | None = None
    topic: str | None = None


class CheckTransactionStateRequest(Header):
    """Code 39, broker to producer, one-way; the body is the half message as a record."""

    tran_state_table_offset: Int64
    commit_log_offset: Int64
    msg_id: str | None = None
    transaction_id: str | None = None
    offset_msg_id: str | None = None
    topic: str | None = None
    broker_name: str | None = msgspec.field(name="bname", default=None)
