# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Twin of `read_runs` in `broker/store/queue_runs.py`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memcmp

from ledgermq.broker.topics import INTERNAL_TOPIC

from ._bytes cimport int32_t, int64_t, load32, load64, store32, store64, uint8_t, uint32_t
from ._record cimport Record, Value, java_hash, last_value, read_record

INTERFACE = 2

cdef enum:
    HEADER_BYTES = 48
    UNIT_BYTES = 20
    MAGIC = 1
    TRANSACTION_MASK = 0xC
    PREPARED = 0x4
    ROLLBACK = 0xC

cdef bytes INTERNAL = INTERNAL_TOPIC.encode()


# A message: its queue by number, and its unit.
cdef struct Unit:
    uint32_t queue
    uint32_t size
    int64_t offset
    int64_t code

cdef struct Queue:
    int64_t log_index
    int64_t first
    int64_t count
    uint8_t *next


cdef class _Found:
    """What was read so far."""

    cdef Unit *units
    cdef Queue *queues
    cdef Py_ssize_t count, room, queue_count, queue_room
    # (topic, queue id) -> its number, in their order.
    cdef dict numbers

    def __cinit__(self):
        self.numbers = {}

    def __dealloc__(self):
        PyMem_Free(self.units)
        PyMem_Free(self.queues)

    cdef int make_room(self) except -1:
        if self.count == self.room:
            self.room = 2 * self.room + 64
            units = <Unit *>PyMem_Realloc(self.units, self.room * sizeof(Unit))
            if units == NULL:
                raise MemoryError
            self.units = units
        if self.queue_count == self.queue_room:
            self.queue_room = 2 * self.queue_room + 16
            queues = <Queue *>PyMem_Realloc(self.queues, self.queue_room * sizeof(Queue))
            if queues == NULL:
                raise MemoryError
            self.queues = queues
        return 0

    cdef Py_ssize_t number_of(self, str topic, int32_t queue_id, Record *r, int64_t index) except -1:
        key = (topic, queue_id)
        found = self.numbers.get(key)
        if found is not None:
            return found
        self.numbers[key] = self.queue_count
        self.queues[self.queue_count] = Queue(index, r.queue_offset, 0, NULL)
        self.queue_count += 1
        return self.queue_count - 1

    cdef dict runs(self):
        """A `QueueRun` for each queue that got something."""
        cdef Py_ssize_t n
        cdef Queue *queue
        cdef Unit *unit
        cdef list packed = [], codes = []
        for n in range(self.queue_count):
            queue = &self.queues[n]
            made = PyBytes_FromStringAndSize(NULL, queue.count * UNIT_BYTES)
            queue.next = <uint8_t *>PyBytes_AS_STRING(made)
            packed.append(made)
            codes.append([])
        for n in range(self.count):
            unit = &self.units[n]
            queue = &self.queues[unit.queue]
            queue.next = store64(store32(store64(queue.next, unit.offset), unit.size), unit.code)
            (<list>codes[unit.queue]).append(unit.code)
        run = _pure().QueueRun
        made = {}
        for key, number in self.numbers.items():
            queue = &self.queues[<Py_ssize_t>number]
            if queue.count:
                made[key] = run(queue.log_index, queue.first, packed[number], codes[number])
        return made


cdef object _module = None


cdef object _pure():
    # Not before it is needed: that module imports this one.
    global _module
    if _module is None:
        from ledgermq.broker.store import queue_runs
        _module = queue_runs
    return _module


def read_runs(bytes data not None, Py_ssize_t at, int64_t log_index, codes):
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data), number
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef const uint8_t *p
    cdef Record record
    cdef int64_t size, pos, term = 0, end_pos = 0, store_ms = 0
    cdef Queue *queue
    cdef const uint8_t *topic_at = NULL
    cdef uint32_t topic_bytes = 0
    cdef str topic = None
    cdef _Found found = _Found()
    cdef int64_t index = log_index
    while 0 <= at and at + HEADER_BYTES <= end:
        p = start + at
        size, pos = <int32_t>load32(p + 4), <int64_t>load64(p + 24)
        if load32(p) != MAGIC or size <= HEADER_BYTES or at + size > end:
            break
        if <int32_t>load32(p + 44) != size - HEADER_BYTES or <int64_t>load64(p + 8) != index:
            break
        if not read_record(p + HEADER_BYTES, size - HEADER_BYTES, &record) or not _is_queued(&record):
            break
        if topic_at == NULL or topic_bytes != record.topic_bytes or memcmp(topic_at, record.topic, topic_bytes):
            try:
                topic = record.topic[:record.topic_bytes].decode()
            except UnicodeDecodeError:
                break
            topic_at, topic_bytes = record.topic, record.topic_bytes
        found.make_room()
        number = found.number_of(topic, record.queue_id, &record, index)
        queue = &found.queues[number]
        if record.queue_offset != queue.first + queue.count:
            break
        found.units[found.count] = Unit(
            <uint32_t>number,
            <uint32_t>(size - HEADER_BYTES),
            pos + HEADER_BYTES,
            _tags_code(&record, codes),
        )
        found.count += 1
        queue.count += 1
        term, end_pos = <int64_t>load64(p + 16), pos + size
        if found.count == 1 or record.store_ms > store_ms:
            store_ms = record.store_ms
        index += 1
        at += size
    if not found.count:
        return None
    return _pure().QueueRuns(found.runs(), index - 1, end_pos, term, store_ms), at


cdef bint _is_queued(Record *record):
    cdef int32_t kind = record.sys_flag & TRANSACTION_MASK
    if kind == PREPARED or kind == ROLLBACK:
        return False
    if record.topic_bytes != <uint32_t>PyBytes_GET_SIZE(INTERNAL):
        return True
    return memcmp(record.topic, PyBytes_AS_STRING(INTERNAL), record.topic_bytes) != 0


cdef int64_t _tags_code(Record *record, object codes) except? -1:
    cdef Value tag = last_value(record, b"TAGS\x01", 5, False)
    cdef bint is_ascii = True
    cdef int64_t code
    if tag.start == NULL:
        return 0
    code = <int32_t>java_hash(tag.start, tag.size, 0, &is_ascii)
    if is_ascii:
        return code
    return codes.of(record.properties[:record.properties_bytes])
