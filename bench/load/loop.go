//go:build linux

package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// wire is what differs between the protocols; all of it runs on the loop.
type wire interface {
	// appendRequest adds the next request of slot i of c, which its token identifies.
	appendRequest(dst []byte, c *conn, i int, token uint32, now int64) []byte
	// next finds the first answer in data; size 0 when it is not all there. It may add to c.out.
	next(c *conn, data []byte) (a answer, size int, err error)
	// answered takes the answer to slot i of c.
	answered(c *conn, i int, a *answer, now int64) verdict
}

// answer is one answer as the protocol reads it; header and body are valid until the next read.
type answer struct {
	// The frame answers nothing: a ping, or a word of the protocol.
	skip   bool
	token  uint32
	code   int
	header []byte
	body   []byte
}

// verdict is what an answer was worth.
type verdict struct {
	messages int
	// Not empty: the request failed, and is counted under this name.
	failure string
	// The slot sends no more.
	over bool
}

// loop keeps connections busy and counts.
type loop struct {
	o      *options
	wire   wire
	poll   *poller
	conns  []*conn
	alive  int
	flying int
	// ns of now(); zero until that time came.
	start, measured, end, ended int64
	over                        bool
	count                       int64
	messages, allMessages       int64
	cpuBefore, cpu              time.Duration
	times                       histogram
	errors                      map[string]int64
	// Open loop: requests sent so far, ns between two, and whose turn it is.
	sent     int64
	interval float64
	turn     int
	// Slots whose last request failed, in the order in which they may be used again.
	resting []rest
	stopped atomic.Bool
	// What is in flight at the end may wait for long, and is no failure.
	abandons bool
}

// rest is the time until which a slot sends nothing.
type rest struct {
	conn  *conn
	slot  int32
	until int64
}

// failurePause is the rest of a slot after a failure, so that a peer that refuses everything at once
// is not flooded.
const failurePause = 10 * time.Millisecond

var origin = time.Now()

// now is a clock in ns that never goes back.
func now() int64 { return int64(time.Since(origin)) }

// newLoop takes over the connections; slots gives the number of slots of each.
func newLoop(o *options, w wire, sockets []int, slots func(id int) int) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{o: o, wire: w, poll: p, alive: len(sockets), errors: map[string]int64{}}
	if o.rate > 0 {
		l.interval = 1e9 / (o.rate / float64(o.batch))
	}
	for id, fd := range sockets {
		l.conns = append(l.conns, newConn(id, fd, slots(id)))
		if err := p.watch(fd, id, false, false); err != nil {
			return nil, fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return l, nil
}

// run loads until the time is over or nothing is left to do, then waits for the last answers.
func (l *loop) run() (*result, error) {
	l.stopOnSignal()
	l.start = now()
	l.end = l.start + int64(l.o.warmUp+l.o.duration)
	if l.interval == 0 {
		for _, c := range l.conns {
			l.refill(c, l.start)
		}
	}
	for at := l.start; !l.finished(at); at = now() {
		l.wake(at)
		l.sendDue(at)
		events, err := l.poll.wait(l.nextTime()-at, l.interval > 0 && !l.over)
		if err != nil {
			return nil, err
		}
		for i := range events {
			l.serve(l.conns[events[i].Fd])
		}
	}
	if l.flying > 0 && !l.abandons {
		l.errors["no answer"] += int64(l.flying)
	}
	found := newResult(l.messages, time.Duration(l.ended-l.measured), l.cpu, &l.times, l.errors)
	found.AllMessages = l.allMessages
	return found, nil
}

// stopOnSignal lets Ctrl-C end the run early, with a result.
func (l *loop) stopOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		l.stopped.Store(true)
	}()
}

// finished moves from warm-up to measuring to the end; true when all answers came or had their time.
func (l *loop) finished(at int64) bool {
	if l.measured == 0 && at >= l.start+int64(l.o.warmUp) {
		l.measured, l.cpuBefore = at, cpuTime()
		l.end = at + int64(l.o.duration)
		l.messages, l.times = 0, histogram{}
		l.errors = map[string]int64{}
	}
	idle := l.alive == 0 || l.flying == 0 && l.interval == 0 && len(l.resting) == 0
	if !l.over && (idle || at >= l.end || l.stopped.Load() || l.enough()) {
		l.finish(at)
	}
	return l.over && (l.flying == 0 || l.abandons || at >= l.ended+int64(l.o.patience))
}

// finish ends what is measured.
func (l *loop) finish(at int64) {
	if l.measured == 0 {
		l.measured, l.cpuBefore = l.start, 0
	}
	l.over, l.ended, l.cpu = true, at, cpuTime()-l.cpuBefore
}

func (l *loop) enough() bool { return l.count > 0 && l.messages >= l.count }

// nextTime is when the loop has something to do even if nothing arrives.
func (l *loop) nextTime() int64 {
	if l.over {
		return l.ended + int64(l.o.patience)
	}
	next := l.end
	if l.measured == 0 {
		next = l.start + int64(l.o.warmUp)
	}
	if len(l.resting) > 0 {
		next = min(next, l.resting[0].until)
	}
	if l.interval > 0 && l.flying+len(l.resting) < l.capacity() {
		next = min(next, l.due())
	}
	return next
}

// wake lets slots that have rested send again.
func (l *loop) wake(at int64) {
	for len(l.resting) > 0 && l.resting[0].until <= at {
		r := l.resting[0]
		l.resting = l.resting[1:]
		if r.conn.closed {
			continue
		}
		r.conn.free = append(r.conn.free, r.slot)
		if l.interval == 0 {
			l.refill(r.conn, at)
		}
	}
}

// serve reads what came on one connection, and sends what its answers made room for.
func (l *loop) serve(c *conn) {
	if c.closed {
		return
	}
	err := c.read()
	at := now()
	if err == nil {
		err = l.parse(c, at)
	}
	switch {
	case err != nil:
		l.lose(c, err)
	case l.interval == 0:
		l.refill(c, at)
	default:
		l.flush(c)
	}
}

// parse takes every whole answer that was read.
func (l *loop) parse(c *conn, at int64) error {
	for c.at < c.end {
		a, size, err := l.wire.next(c, c.in[c.at:c.end])
		if err != nil || size == 0 {
			return err
		}
		c.at += size
		if !a.skip {
			l.take(c, &a, at)
		}
	}
	return nil
}

// take counts one answer and frees its slot.
func (l *loop) take(c *conn, a *answer, at int64) {
	i, s := c.find(a.token)
	if s == nil {
		l.errors["answer to nothing in flight"]++
		return
	}
	s.busy = false
	l.flying--
	found := l.wire.answered(c, i, a, at)
	switch {
	case found.over:
	case found.failure != "":
		l.resting = append(l.resting, rest{c, int32(i), at + int64(failurePause)})
	default:
		c.free = append(c.free, int32(i))
	}
	if found.failure != "" {
		l.fail(found.failure, a)
		return
	}
	l.allMessages += int64(found.messages)
	if !l.over {
		l.messages += int64(found.messages)
		l.times.add(at - s.since)
	}
}

// fail counts a failure; the first of its kind is shown.
func (l *loop) fail(name string, a *answer) {
	if l.errors[name] == 0 {
		warn("failure %s: %.300s", name, append(append([]byte{}, a.header...), a.body...))
	}
	l.errors[name]++
}

// refill sends on every free slot of a connection, with one write.
func (l *loop) refill(c *conn, at int64) {
	if !l.over {
		for len(c.free) > 0 {
			l.send(c, at, at)
		}
	}
	l.flush(c)
}

// send adds one request, which counts as sent at since.
func (l *loop) send(c *conn, since, at int64) {
	i, s := c.take(since)
	c.out = l.wire.appendRequest(c.out, c, i, s.token, at)
	l.flying++
}

func (l *loop) flush(c *conn) {
	if len(c.out) == 0 && !c.waiting {
		return
	}
	if err := c.flush(l.poll); err != nil {
		l.lose(c, err)
	}
}

// lose gives up a connection and what was in flight on it.
func (l *loop) lose(c *conn, err error) {
	if c.closed {
		return
	}
	c.closed = true
	l.alive--
	_ = syscall.Close(c.fd)
	lost := int64(0)
	for i := range c.slots {
		if c.slots[i].busy {
			c.slots[i].busy = false
			lost++
		}
	}
	c.free = c.free[:0]
	l.flying -= int(lost)
	l.errors["lost connection"] += max(lost, 1)
	warn("connection %d, with %d in flight: %s", c.id, lost, shortText(err))
}
