# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Twins of `encode_record` in `remoting/message_record.py` and of `encode_records` in
`broker/record_builder.py`, and what the others read of a record."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from ._bytes cimport (
    crc32, int32_t, int64_t, load16, load32, load64, store16, store32, store64, uint8_t, uint32_t,
)

INTERFACE = 2

cdef enum:
    # Size to born time; store time; reconsume times, prepared transaction offset, body size.
    HEAD_BYTES = 48
    TIME_BYTES = 8
    TAIL_BYTES = 16
    BORN_HOST_V6 = 0x10
    STORE_HOST_V6 = 0x20
    MAX_TOPIC_V1_BYTES = 0x7F
    MAX_BYTES = 0x7FFF

cdef uint32_t MAGIC_V1 = 0xDAA320A7
cdef uint32_t MAGIC_V2 = 0xDAA320AB


cdef bint read_record(const uint8_t *p, int64_t size, Record *record) noexcept nogil:
    cdef uint32_t magic
    cdef int64_t at, body_bytes, prefix
    # With empty topic, body and properties, and IPv4 hosts.
    if size < HEAD_BYTES + TIME_BYTES + 16 + TAIL_BYTES + 3 or load32(p) != size:
        return False
    magic = load32(p + 4)
    if magic != MAGIC_V1 and magic != MAGIC_V2:
        return False
    prefix = 1 if magic == MAGIC_V1 else 2
    record.queue_id = <int32_t>load32(p + 12)
    record.queue_offset = <int64_t>load64(p + 20)
    record.sys_flag = <int32_t>load32(p + 36)
    at = HEAD_BYTES + (20 if record.sys_flag & BORN_HOST_V6 else 8)
    record.store_ms = <int64_t>load64(p + at)
    at += TIME_BYTES + (20 if record.sys_flag & STORE_HOST_V6 else 8) + TAIL_BYTES
    if at + prefix + 2 > size:
        return False
    body_bytes = <int32_t>load32(p + at - 4)
    if body_bytes < 0 or at + body_bytes + prefix + 2 > size:
        return False
    at += body_bytes
    record.topic_bytes = p[at] if prefix == 1 else load16(p + at)
    at += prefix
    if at + record.topic_bytes + 2 > size:
        return False
    record.topic = p + at
    at += record.topic_bytes
    record.properties_bytes = load16(p + at)
    record.properties = p + at + 2
    return at + 2 + record.properties_bytes == size


cdef Value last_value(Record *record, const char *name, uint32_t name_bytes, bint filled) noexcept nogil:
    cdef const uint8_t *p = record.properties
    cdef const uint8_t *end = p + record.properties_bytes
    cdef const uint8_t *stop
    cdef Value found
    found.start, found.size = NULL, 0
    while p < end:
        stop = <const uint8_t *>memchr(p, 2, end - p)
        if stop == NULL:
            stop = end
        if stop - p >= name_bytes and memcmp(p, name, name_bytes) == 0:
            if not filled or stop - p > name_bytes:
                found.start, found.size = p + name_bytes, <uint32_t>(stop - p - name_bytes)
        p = stop + 1
    return found


cdef uint32_t java_hash(
    const uint8_t *text, uint32_t size, uint32_t value, bint *is_ascii
) noexcept nogil:
    cdef uint32_t n
    for n in range(size):
        if text[n] >= 0x80:
            is_ascii[0] = False
        value = 31 * value + text[n]
    return value


def encode_record(
    *,
    bytes topic not None,
    queue_id,
    flag,
    queue_offset,
    physical_offset,
    sys_flag,
    born_timestamp_ms,
    bytes born_host not None,
    store_timestamp_ms,
    bytes store_host not None,
    reconsume_times,
    prepared_transaction_offset,
    bytes body not None,
    bytes properties not None,
):
    return _encode(
        topic, queue_id, flag, queue_offset, physical_offset, sys_flag, born_timestamp_ms,
        born_host, store_timestamp_ms, store_host, reconsume_times, prepared_transaction_offset,
        body, properties,
    )


def encode_records(
    messages,
    topics,
    queue_offsets,
    offsets,
    int64_t store_timestamp_ms,
    bytes store_host not None,
):
    cdef list made = []
    for m, topic, queue_offset, offset in zip(
        messages, topics, queue_offsets, offsets, strict=True
    ):
        made.append(_encode(
            topic, m.queue_id, m.flag, queue_offset, offset, m.sys_flag, m.born_timestamp_ms,
            m.born_host, store_timestamp_ms, store_host, m.reconsume_times,
            m.prepared_transaction_offset, m.body, m.properties,
        ))
    return made


cdef bytes _encode(
    bytes topic,
    queue_id,
    flag,
    queue_offset,
    physical_offset,
    sys_flag,
    born_timestamp_ms,
    bytes born_host,
    store_timestamp_ms,
    bytes store_host,
    reconsume_times,
    prepared_transaction_offset,
    bytes body,
    bytes properties,
):
    if topic is None or born_host is None or store_host is None:
        raise TypeError("a record's topic and hosts are bytes")
    if body is None or properties is None:
        raise TypeError("a record's body and properties are bytes")
    cdef Py_ssize_t topic_bytes = PyBytes_GET_SIZE(topic)
    cdef Py_ssize_t properties_bytes = PyBytes_GET_SIZE(properties)
    cdef Py_ssize_t body_bytes = PyBytes_GET_SIZE(body)
    cdef Py_ssize_t born_bytes = PyBytes_GET_SIZE(born_host)
    cdef Py_ssize_t store_bytes = PyBytes_GET_SIZE(store_host)
    cdef Py_ssize_t prefix = 1 if topic_bytes <= MAX_TOPIC_V1_BYTES else 2
    cdef Py_ssize_t size
    cdef bytes made
    cdef uint8_t *q
    cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(body)
    cdef int32_t flags
    if properties_bytes > MAX_BYTES or topic_bytes > MAX_BYTES:
        raise _too_long(topic_bytes, properties_bytes)
    size = HEAD_BYTES + born_bytes + TIME_BYTES + store_bytes + TAIL_BYTES
    size += body_bytes + prefix + topic_bytes + 2 + properties_bytes
    if size > 0xFFFFFFFF or body_bytes > 0x7FFFFFFF:
        raise _out_of_range(f"{size} bytes")
    made = PyBytes_FromStringAndSize(NULL, size)
    q = <uint8_t *>PyBytes_AS_STRING(made)
    try:
        flags = <int32_t>(sys_flag & ~(BORN_HOST_V6 | STORE_HOST_V6))
        if born_bytes == 20:
            flags |= BORN_HOST_V6
        if store_bytes == 20:
            flags |= STORE_HOST_V6
        q = store32(q, <uint32_t>size)
        q = store32(q, MAGIC_V1 if prefix == 1 else MAGIC_V2)
        q = store32(q, crc32(0, text, <unsigned int>body_bytes) & 0x7FFFFFFF)
        q = store32(q, <uint32_t><int32_t>queue_id)
        q = store32(q, <uint32_t><int32_t>flag)
        q = store64(q, <int64_t>queue_offset)
        q = store64(q, <int64_t>physical_offset)
        q = store32(q, <uint32_t>flags)
        q = store64(q, <int64_t>born_timestamp_ms)
        memcpy(q, PyBytes_AS_STRING(born_host), born_bytes)
        q = store64(q + born_bytes, <int64_t>store_timestamp_ms)
        memcpy(q, PyBytes_AS_STRING(store_host), store_bytes)
        q = store32(q + store_bytes, <uint32_t><int32_t>reconsume_times)
        q = store64(q, <int64_t>prepared_transaction_offset)
    except OverflowError as e:
        raise _out_of_range(str(e)) from e
    q = store32(q, <uint32_t>body_bytes)
    memcpy(q, text, body_bytes)
    q += body_bytes
    if prefix == 1:
        q[0] = <uint8_t>topic_bytes
        q += 1
    else:
        q = store16(q, <unsigned short>topic_bytes)
    memcpy(q, PyBytes_AS_STRING(topic), topic_bytes)
    q = store16(q + topic_bytes, <unsigned short>properties_bytes)
    memcpy(q, PyBytes_AS_STRING(properties), properties_bytes)
    return made


cdef object _too_long(Py_ssize_t topic_bytes, Py_ssize_t properties_bytes):
    # Not before it is needed: that module imports this one.
    from ledgermq.remoting.message_record import too_long
    return too_long(topic_bytes, properties_bytes)


cdef object _out_of_range(str what):
    from ledgermq.remoting.message_record import out_of_range
    return out_of_range(what)
