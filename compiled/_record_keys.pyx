# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Twins of `keys_in` in `broker/store/record_keys.py`, `chained` in `index_builder.py`."""

from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp

from ledgermq.broker.topics import INTERNAL_TOPIC

from ._bytes cimport int32_t, int64_t, store32, store64, uint8_t, uint32_t
from ._record cimport Record, Value, java_hash, last_value, read_record

INTERFACE = 2

cdef enum:
    ENTRY_BYTES = 20
    PAGE_SLOTS = 1024
    MAX_SECONDS = 0x7FFFFFFF
    TRANSACTION_MASK = 0xC
    ROLLBACK = 0xC


cdef bytes INTERNAL = INTERNAL_TOPIC.encode()
cdef object _keys_in = None
cdef object _record_keys = None


cdef int _load() except -1:
    # Not before it is needed: that module imports this one.
    global _keys_in, _record_keys
    if _keys_in is None:
        from ledgermq.broker.store import record_keys
        from ledgermq.compiled import PAIRS
        _record_keys = record_keys.RecordKeys
        _keys_in = next(pair.pure for pair in PAIRS if pair.twin is keys_in)
    return 0


def keys_in(bytes data not None, places):
    cdef list keys = [], unreadable = []
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), begin, end
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Record record
    cdef int64_t offset
    _load()
    for place in places:
        offset, begin, end = place
        if 0 <= begin <= end <= size and read_record(start + begin, end - begin, &record):
            if _put(&record, offset, keys):
                continue
        # What is not plain is looked at by the other one.
        found = _keys_in(data, (place,))
        keys += found.keys
        unreadable += found.unreadable
    return _record_keys(keys, unreadable)


cdef bint _put(Record *record, int64_t offset, list keys) except -1:
    """Add the record's keys; False: not all is ASCII, and nothing was added."""
    cdef bint is_ascii = True
    cdef uint32_t prefix
    cdef Value unique, later
    cdef const uint8_t *p
    cdef const uint8_t *end
    cdef const uint8_t *stop
    if record.topic_bytes == <uint32_t>PyBytes_GET_SIZE(INTERNAL):
        if memcmp(record.topic, PyBytes_AS_STRING(INTERNAL), record.topic_bytes) == 0:
            return True
    if record.sys_flag & TRANSACTION_MASK == ROLLBACK:
        return True
    unique = last_value(record, b"UNIQ_KEY\x01", 9, True)
    later = last_value(record, b"KEYS\x01", 5, True)
    prefix = java_hash(record.topic, record.topic_bytes, 0, &is_ascii)
    java_hash(unique.start, unique.size, 0, &is_ascii)
    java_hash(later.start, later.size, 0, &is_ascii)
    if not is_ascii:
        return False
    prefix = 31 * prefix + 35  # "#"
    if unique.start != NULL:
        keys.append(_hashed(unique.start, unique.size, prefix, offset, record.store_ms))
    if later.start == NULL:
        return True
    p, end = later.start, later.start + later.size
    while p < end:
        stop = <const uint8_t *>memchr(p, 32, end - p)
        if stop == NULL:
            stop = end
        if stop > p:
            keys.append(_hashed(p, <uint32_t>(stop - p), prefix, offset, record.store_ms))
        p = stop + 1
    return True


cdef tuple _hashed(const uint8_t *key, uint32_t size, uint32_t prefix, int64_t offset, int64_t store_ms):
    cdef bint is_ascii = True
    cdef uint32_t value = java_hash(key, size, prefix, &is_ascii)
    if value == 0x80000000u:
        value = 0
    elif value > 0x80000000u:
        value = 0 - value
    return value, offset, store_ms


def chained(keys, numbers, bytearray dirty not None, int32_t number, int64_t begin_ms):
    cdef Py_buffer view
    PyObject_GetBuffer(numbers, &view, PyBUF_WRITABLE | PyBUF_ANY_CONTIGUOUS)
    try:
        return _chained(
            tuple(keys), <int32_t *>view.buf, view.len // sizeof(int32_t), dirty, number, begin_ms
        )
    finally:
        PyBuffer_Release(&view)


cdef tuple _chained(
    tuple keys, int32_t *heads, Py_ssize_t slots, bytearray dirty, int32_t number, int64_t begin_ms
):
    cdef Py_ssize_t slot, count = len(keys)
    cdef char *pages = PyByteArray_AS_STRING(dirty)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, count * ENTRY_BYTES)
    cdef uint8_t *q = <uint8_t *>PyBytes_AS_STRING(made)
    cdef int32_t before
    cdef int64_t key_hash, offset, store_ms, seconds, used = 0
    if (slots - 1) // PAGE_SLOTS >= PyByteArray_GET_SIZE(dirty):
        raise ValueError(f"{slots} slots have more pages than {len(dirty)}")
    for key_hash, offset, store_ms in keys:
        if key_hash < 0:
            raise ValueError(f"a hash is never negative: {key_hash}")
        slot = key_hash % slots
        before = heads[slot]
        if before == 0:
            used += 1
        heads[slot] = number
        pages[slot // PAGE_SLOTS] = 1
        seconds = (store_ms - begin_ms) // 1000 if store_ms > begin_ms > 0 else 0
        q = store32(q, <uint32_t>key_hash)
        q = store64(q, offset)
        q = store32(q, <uint32_t>(seconds if seconds < MAX_SECONDS else MAX_SECONDS))
        q = store32(q, <uint32_t>before)
        number += 1
    return made, used
