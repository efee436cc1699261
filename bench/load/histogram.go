package main

import "math/bits"

// Buckets per power of two: each is at most 1/128 of its value wide.
const (
	bucketBits = 7
	buckets    = 1 << bucketBits
)

// histogram counts durations in ns, to within 0.8 %.
type histogram struct {
	counts [(64 - bucketBits + 1) * buckets]uint64
	total  uint64
	max    int64
}

// add counts one duration; a negative one counts as 0.
func (h *histogram) add(ns int64) {
	ns = max(ns, 0)
	h.counts[bucketOf(uint64(ns))]++
	h.total++
	h.max = max(h.max, ns)
}

// quantile is the duration in ns that a share q of all did not exceed; 0 when there are none.
func (h *histogram) quantile(q float64) float64 {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if seen > rank {
			return min(bucketMiddle(i), float64(h.max))
		}
	}
	return float64(h.max)
}

// bucketOf gives the bucket of a value: the values below 128 have one each.
func bucketOf(v uint64) int {
	if v < buckets {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - bucketBits
	return (shift+1)<<bucketBits + int(v>>shift) - buckets
}

// bucketMiddle is the value in the middle of a bucket.
func bucketMiddle(i int) float64 {
	if i < buckets {
		return float64(i)
	}
	shift := i>>bucketBits - 1
	low := uint64(i&(buckets-1)+buckets) << shift
	return float64(low) + float64(uint64(1)<<shift-1)/2
}
