package main

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"syscall"
	"time"
)

// result is what a run prints.
type result struct {
	Messages        int64            `json:"messages"`
	AllMessages     int64            `json:"all_messages"` // with those of the warm-up and after the end
	Seconds         float64          `json:"seconds"`
	PerS            float64          `json:"per_s"`
	P50             float64          `json:"p50_us"`
	P90             float64          `json:"p90_us"`
	P99             float64          `json:"p99_us"`
	P999            float64          `json:"p999_us"`
	Max             float64          `json:"max_us"`
	Errors          map[string]int64 `json:"errors"`
	CPU             float64          `json:"cpu_s"` // of the whole process, from its start on
	CPUPerMessageUs float64          `json:"cpu_us_per_message"`
	Lag             *lag             `json:"lag,omitempty"`
	Outage          *gaps            `json:"outage,omitempty"`
}

// lag says how old the messages of a followed topic were when they came, since they were born.
type lag struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// newLag takes the figures of ages in ns.
func newLag(h *histogram) *lag {
	return &lag{
		P50: round(h.quantile(0.5)/1e6, 3),
		P99: round(h.quantile(0.99)/1e6, 3),
		Max: round(float64(h.max)/1e6, 3),
	}
}

// newResult takes the figures of a measured time, and the CPU that was used in it.
func newResult(messages int64, took, cpu time.Duration, h *histogram, errors map[string]int64) *result {
	r := &result{
		Messages: messages,
		Seconds:  round(took.Seconds(), 4),
		P50:      round(h.quantile(0.5)/1e3, 1),
		P90:      round(h.quantile(0.9)/1e3, 1),
		P99:      round(h.quantile(0.99)/1e3, 1),
		P999:     round(h.quantile(0.999)/1e3, 1),
		Max:      round(float64(h.max)/1e3, 1),
		Errors:   errors,
		CPU:      round(cpuTime().Seconds(), 4),
	}
	if took > 0 {
		r.PerS = round(float64(messages)/took.Seconds(), 1)
	}
	if messages > 0 {
		r.CPUPerMessageUs = round(cpu.Seconds()*1e6/float64(messages), 3)
	}
	return r
}

// print writes the result as one line of JSON.
func (r *result) print(to io.Writer) error { return json.NewEncoder(to).Encode(r) }

// cpuTime is the user and system time of this process so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func round(v float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(v*scale) / scale
}

// shortText names an error without addresses, so that equal ones are counted together.
func shortText(err error) string {
	var errno syscall.Errno
	var network net.Error
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return err.Error()
}
