//go:build linux

package main

// due is when the next request of the open loop should go out.
func (l *loop) due() int64 { return l.start + int64(float64(l.sent)*l.interval) }

// capacity is how many requests may be in flight on the living connections.
func (l *loop) capacity() int { return l.alive * l.o.inFlight }

// sendDue sends what is due in the open loop, with one write per connection. What finds no free slot
// waits, and its latency counts from when it was due all the same.
func (l *loop) sendDue(at int64) {
	if l.interval == 0 || l.over {
		return
	}
	before := l.sent
	for l.due() <= at {
		c := l.nextFree()
		if c == nil {
			break
		}
		l.send(c, l.due(), at)
		l.sent++
	}
	if l.sent == before {
		return
	}
	for _, c := range l.conns {
		// A socket that was full is written to when it says that it takes more.
		if !c.closed && !c.waiting {
			l.flush(c)
		}
	}
}

// nextFree is the next connection in turn that has a free slot; nil when none has.
func (l *loop) nextFree() *conn {
	for range l.conns {
		c := l.conns[l.turn]
		l.turn = (l.turn + 1) % len(l.conns)
		if len(c.free) > 0 {
			return c
		}
	}
	return nil
}
