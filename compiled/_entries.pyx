# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Twins of `dledger/store/walked.py` and of `encode` in `dledger/store/entry.py`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memcpy

from ._bytes cimport (
    crc32, int32_t, int64_t, load32, load64, store32, store64, uint8_t, uint32_t,
)

INTERFACE = 2

cdef enum:
    HEADER_BYTES = 48
    CHAIN_AT = 36
    BEHIND_CHAIN = 40
    UNIT_BYTES = 32
    MAGIC = 1


MIN_INDEX, MAX_INDEX = -(1 << 63), (1 << 63) - 1


cdef inline const uint8_t *_start(bytes data):
    return <const uint8_t *>PyBytes_AS_STRING(data)


cdef class Walked:
    cdef readonly bytes data
    cdef Py_ssize_t _count
    cdef Py_ssize_t *_starts

    def __cinit__(self, bytes data not None):
        cdef Py_ssize_t at = 0, end = PyBytes_GET_SIZE(data), room = 0
        cdef int64_t size, body
        cdef const uint8_t *p = _start(data)
        self.data = data
        while at + HEADER_BYTES <= end:
            size, body = <int32_t>load32(p + at + 4), <int32_t>load32(p + at + 44)
            if load32(p + at) != MAGIC or body < 1 or size != HEADER_BYTES + body:
                break
            if at + size > end:
                break
            if self._count == room:
                room = 2 * room + 64
                self._grow(room)
            self._starts[self._count] = at
            self._count += 1
            at += size
        if at < end:
            _refuse(data, at)

    cdef int _grow(self, Py_ssize_t room) except -1:
        starts = <Py_ssize_t *>PyMem_Realloc(self._starts, room * sizeof(Py_ssize_t))
        if starts == NULL:
            raise MemoryError
        self._starts = starts
        return 0

    def __dealloc__(self):
        PyMem_Free(self._starts)

    def __len__(self):
        return self._count

    def __getitem__(self, Py_ssize_t n):
        if n < 0:
            n += self._count
        if not 0 <= n < self._count:
            raise IndexError(n)
        return self._starts[n], _header(self.data, self._starts[n])

    def __iter__(self):
        return iter([self[n] for n in range(self._count)])

    cdef inline const uint8_t *_at(self, Py_ssize_t n):
        return _start(self.data) + self._starts[n]

    def gap(self, first):
        cdef Py_ssize_t n
        cdef int64_t wanted
        if not MIN_INDEX <= first <= MAX_INDEX - self._count:
            # What a peer says may be any number.
            for n in range(self._count):
                if <int64_t>load64(self._at(n) + 8) != first + <object>n:
                    return n
            return -1
        wanted = first
        for n in range(self._count):
            if <int64_t>load64(self._at(n) + 8) != wanted + n:
                return n
        return -1

    def runs(self):
        cdef Py_ssize_t n, begin = 0
        cdef int64_t term = 0, own
        found = []
        for n in range(self._count):
            own = <int64_t>load64(self._at(n) + 16)
            if n == 0:
                term = own
            elif own != term:
                found.append((term, n - begin))
                begin, term = n, own
        if self._count:
            found.append((term, self._count - begin))
        return tuple(found)

    def plain_run(self, Py_ssize_t n, int64_t index, int64_t pos, int64_t room, uint32_t chain):
        cdef Py_ssize_t count = 0
        cdef uint32_t size, value
        cdef const uint8_t *p
        n = max(n, 0)
        while n + count < self._count:
            p = self._at(n + count)
            size = load32(p + 4)
            room -= size
            if <int64_t>load64(p + 8) != index + count or <int64_t>load64(p + 24) != pos:
                break
            if room < 0:
                break
            if crc32(0, p + HEADER_BYTES, size - HEADER_BYTES) != load32(p + 40):
                break
            value = crc32(crc32(chain, p, CHAIN_AT), p + BEHIND_CHAIN, size - BEHIND_CHAIN)
            if value == 0:
                value = 1
            if value != load32(p + CHAIN_AT):
                break
            count += 1
            pos, chain = pos + size, value
        return count, chain

    def units(self, Py_ssize_t n, Py_ssize_t count):
        cdef Py_ssize_t at
        cdef const uint8_t *p
        cdef bytes made
        cdef uint8_t *q
        n = min(max(n, 0), self._count)
        count = max(min(count, self._count - n), 0)
        made = PyBytes_FromStringAndSize(NULL, count * UNIT_BYTES)
        q = <uint8_t *>PyBytes_AS_STRING(made)
        for at in range(n, n + count):
            p = self._at(at)
            q = store32(q, MAGIC)
            q = store64(q, load64(p + 24))
            q = store32(q, load32(p + 4))
            q = store64(q, load64(p + 8))
            q = store64(q, load64(p + 16))
        return made


def encode_run(int64_t index, int64_t term, int64_t pos, bodies, uint32_t chain):
    cdef Py_ssize_t count, total = 0, size
    cdef bytes body, made, units
    cdef uint8_t *q
    cdef uint8_t *unit
    # Gone through twice: nobody may change it between.
    bodies = tuple(bodies)
    count = len(bodies)
    for body in bodies:
        if body is None:
            raise TypeError("a body is bytes")
        total += HEADER_BYTES + PyBytes_GET_SIZE(body)
    made = PyBytes_FromStringAndSize(NULL, total)
    units = PyBytes_FromStringAndSize(NULL, count * UNIT_BYTES)
    q, unit = <uint8_t *>PyBytes_AS_STRING(made), <uint8_t *>PyBytes_AS_STRING(units)
    for body in bodies:
        size = HEADER_BYTES + PyBytes_GET_SIZE(body)
        chain = _store_header(q, index, term, pos, body, chain)
        memcpy(q + HEADER_BYTES, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        unit = store32(unit, MAGIC)
        unit = store64(unit, pos)
        unit = store32(unit, <uint32_t>size)
        unit = store64(unit, index)
        unit = store64(unit, term)
        q += size
        pos += size
        index += 1
    return made, units, chain


cdef object _entry = None


cdef object _pure():
    # Not before it is needed: that module imports this one.
    global _entry
    if _entry is None:
        from ledgermq.dledger.store import entry
        _entry = entry
    return _entry


cdef object _header(bytes data, Py_ssize_t at):
    return _pure().decode(data, at)


cdef int _refuse(bytes data, Py_ssize_t at) except -1:
    header = _header(data, at)
    raise _pure().EntryError(f"entry {header.log_index} is cut short")


def encode(int64_t index, int64_t term, int64_t pos, bytes body not None, uint32_t chain):
    cdef bytes header = PyBytes_FromStringAndSize(NULL, HEADER_BYTES)
    cdef uint8_t *q = <uint8_t *>PyBytes_AS_STRING(header)
    chain = _store_header(q, index, term, pos, body, chain)
    return header, chain


cdef uint32_t _store_header(
    uint8_t *start, int64_t index, int64_t term, int64_t pos, bytes body, uint32_t chain
) except? 0:
    """Write the header of an entry; the new chain value."""
    cdef Py_ssize_t body_bytes = PyBytes_GET_SIZE(body)
    cdef int64_t size = HEADER_BYTES + body_bytes
    cdef const uint8_t *p = _start(body)
    cdef uint8_t *q = start
    if size > 0x7FFFFFFF:
        raise OverflowError(f"an entry of {size} bytes")
    q = store32(q, MAGIC)
    q = store32(q, <uint32_t>size)
    q = store64(q, index)
    q = store64(q, term)
    q = store64(q, pos)
    q = store32(q, 0)
    store32(q + 4, crc32(0, p, <unsigned int>body_bytes))
    store32(q + 8, <uint32_t>body_bytes)
    chain = crc32(crc32(chain, start, CHAIN_AT), q + 4, 8)
    chain = crc32(chain, p, <unsigned int>body_bytes)
    if chain == 0:
        chain = 1
    store32(q, chain)
    return chain
