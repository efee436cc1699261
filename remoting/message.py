"""Messages: properties, ids, batches, stored records. The parts live in the files message_*.py."""

from .message_batch import MAX_PROPERTIES_BYTES, BatchItem, decode_batch, encode_batch
from .message_compression import compress_body, decompress_body
from .message_id import (
    OffsetMsgId,
    UniqueIdMaker,
    host_offset_msg_id,
    host_text,
    offset_msg_id,
    pack_host,
    parse_offset_msg_id,
)
from .message_properties import (
    PropertyName,
    decode_properties,
    encode_properties,
    java_hash,
    tags_code,
)
from .message_record import (
    MAGIC_BLANK,
    MAGIC_V1,
    MAGIC_V2,
    RecordError,
    RecordPeek,
    decode_record,
    decode_records,
    encode_record,
    peek_record,
)
from .message_types import Message, MessageExt, SysFlag

__all__ = [
    "MAGIC_BLANK",
    "MAGIC_V1",
    "MAGIC_V2",
    "MAX_PROPERTIES_BYTES",
    "BatchItem",
    "Message",
    "MessageExt",
    "OffsetMsgId",
    "PropertyName",
    "RecordError",
    "RecordPeek",
    "SysFlag",
    "UniqueIdMaker",
    "compress_body",
    "decode_batch",
    "decode_properties",
    "decode_record",
    "decode_records",
    "decompress_body",
    "encode_batch",
    "encode_properties",
    "encode_record",
    "host_offset_msg_id",
    "host_text",
    "java_hash",
    "offset_msg_id",
    "pack_host",
    "parse_offset_msg_id",
    "peek_record",
    "tags_code",
]
