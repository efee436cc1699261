# Where the parts of a stored message are; message_record.py describes the layout.

from ._bytes cimport int32_t, int64_t, uint8_t, uint32_t

cdef struct Record:
    const uint8_t *topic
    uint32_t topic_bytes
    const uint8_t *properties
    uint32_t properties_bytes
    int32_t queue_id
    int64_t queue_offset
    int32_t sys_flag
    int64_t store_ms

# A property's value; NULL: there is none.
cdef struct Value:
    const uint8_t *start
    uint32_t size

# Whether the record that begins at `p` has exactly `size` bytes and is whole.
cdef bint read_record(const uint8_t *p, int64_t size, Record *record) noexcept nogil

# The last value of a property, `name` with its \x01; with `filled` the last that is not empty.
cdef Value last_value(Record *record, const char *name, uint32_t name_bytes, bint filled) noexcept nogil

# Java's String.hashCode of ASCII, going on from `value`; `is_ascii` becomes False for other text.
cdef uint32_t java_hash(
    const uint8_t *text, uint32_t size, uint32_t value, bint *is_ascii
) noexcept nogil
