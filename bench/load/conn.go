//go:build linux

package main

import (
	"errors"
	"io"
)

const (
	readBytes = 64 << 10
	// No frame of RocketMQ is longer than 16 MiB.
	maxReadBytes = 32 << 20
)

var errTooLong = errors.New("an answer of more than 32 MiB")

// slot is one of the requests that a connection may have in flight.
type slot struct {
	token uint32
	busy  bool
	// When the request was sent, or was due; ns of now().
	since int64
}

// conn is one connection with its slots and buffers.
type conn struct {
	id     int
	fd     int
	closed bool
	slots  []slot
	free   []int32
	// What was read and not yet parsed: in[at:end].
	in      []byte
	at, end int
	// What is not yet written: out[put:].
	out     []byte
	put     int
	waiting bool
}

// newConn prepares a connection with n slots around a socket.
func newConn(id, fd, n int) *conn {
	c := &conn{id: id, fd: fd, slots: make([]slot, n), in: make([]byte, readBytes)}
	for i := n - 1; i >= 0; i-- {
		c.slots[i].token = uint32(i)
		c.free = append(c.free, int32(i))
	}
	return c
}

// take gives a free slot with a token that no request in flight on this connection has.
func (c *conn) take(since int64) (int, *slot) {
	i := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	s := &c.slots[i]
	s.token += uint32(len(c.slots))
	if s.token >= tokenLimit {
		s.token = uint32(i)
	}
	s.busy, s.since = true, since
	return int(i), s
}

// find gives the slot whose request a token answers; nil when there is none.
func (c *conn) find(token uint32) (int, *slot) {
	i := int(token) % len(c.slots)
	if s := &c.slots[i]; s.busy && s.token == token {
		return i, s
	}
	return i, nil
}

// read takes what has arrived; io.EOF when the peer closed.
func (c *conn) read() error {
	if c.at == c.end {
		c.at, c.end = 0, 0
	}
	if c.end == len(c.in) {
		if err := c.makeRoom(); err != nil {
			return err
		}
	}
	n, closed, err := readSome(c.fd, c.in[c.end:])
	if closed {
		return io.EOF
	}
	c.end += n
	return err
}

// makeRoom moves an unfinished answer to the front of the buffer, or makes the buffer longer.
func (c *conn) makeRoom() error {
	into := c.in
	if c.at == 0 {
		if len(c.in) >= maxReadBytes {
			return errTooLong
		}
		into = make([]byte, 2*len(c.in))
	}
	c.end = copy(into, c.in[c.at:c.end])
	c.at, c.in = 0, into
	return nil
}

// flush writes what is due; the rest stays until the socket takes more.
func (c *conn) flush(p *poller) error {
	if c.put < len(c.out) {
		n, err := writeSome(c.fd, c.out[c.put:])
		if err != nil {
			return err
		}
		c.put += n
	}
	rest := c.put < len(c.out)
	if !rest {
		c.out, c.put = c.out[:0], 0
	}
	if rest == c.waiting {
		return nil
	}
	c.waiting = rest
	return p.watch(c.fd, c.id, rest, true)
}
