# Big-endian numbers in bytes, and CRC-32 as zlib has it.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "zlib.h":
    unsigned long crc32(unsigned long crc, const unsigned char *data, unsigned int size) nogil

cdef extern from *:
    """
    #include <stdint.h>

    static inline uint16_t load16(const uint8_t *p) {
        return (uint16_t) (p[0] << 8 | p[1]);
    }
    static inline uint32_t load32(const uint8_t *p) {
        return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
    }
    static inline uint64_t load64(const uint8_t *p) {
        return (uint64_t) load32(p) << 32 | load32(p + 4);
    }
    static inline uint8_t *store16(uint8_t *p, uint16_t value) {
        p[0] = (uint8_t) (value >> 8);
        p[1] = (uint8_t) value;
        return p + 2;
    }
    static inline uint8_t *store32(uint8_t *p, uint32_t value) {
        p[0] = (uint8_t) (value >> 24);
        p[1] = (uint8_t) (value >> 16);
        p[2] = (uint8_t) (value >> 8);
        p[3] = (uint8_t) value;
        return p + 4;
    }
    static inline uint8_t *store64(uint8_t *p, uint64_t value) {
        return store32(store32(p, (uint32_t) (value >> 32)), (uint32_t) value);
    }
    """
    uint16_t load16(const uint8_t *p) nogil
    uint32_t load32(const uint8_t *p) nogil
    uint64_t load64(const uint8_t *p) nogil
    uint8_t *store16(uint8_t *p, uint16_t value) nogil
    uint8_t *store32(uint8_t *p, uint32_t value) nogil
    uint8_t *store64(uint8_t *p, uint64_t value) nogil
