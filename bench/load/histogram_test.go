package main

import (
	"math"
	"testing"
)

func TestABucketHoldsItsMiddle(t *testing.T) {
	for i := range len(histogram{}.counts) {
		if got := bucketOf(uint64(bucketMiddle(i))); got != i {
			t.Fatalf("the middle %v of bucket %d is in bucket %d", bucketMiddle(i), i, got)
		}
	}
}

func TestBucketsAreWithinOnePercent(t *testing.T) {
	for v := uint64(1); v < math.MaxInt64/3; v = v*3/2 + 1 {
		if middle := bucketMiddle(bucketOf(v)); math.Abs(middle-float64(v)) > float64(v)*0.01 {
			t.Errorf("%d is counted as %v", v, middle)
		}
	}
}

func TestQuantiles(t *testing.T) {
	h := histogram{}
	for v := range int64(1000) {
		h.add(v * 1000)
	}
	for q, want := range map[float64]float64{0: 0, 0.5: 500e3, 0.9: 900e3, 0.99: 990e3, 1: 999e3} {
		if got := h.quantile(q); math.Abs(got-want) > want*0.01 {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
	if h.max != 999e3 || h.total != 1000 {
		t.Errorf("max %d of %d", h.max, h.total)
	}
}

func TestNothingCounted(t *testing.T) {
	h := histogram{}
	if got := h.quantile(0.99); got != 0 {
		t.Errorf("the quantile of nothing is %v", got)
	}
}
