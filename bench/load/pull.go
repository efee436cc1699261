//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

const (
	// Bits of a pull's sysFlag: wait for a message, and the subscription is in the header.
	pullSuspends     = 2
	pullSubscription = 4
	pullWait         = 15 * time.Second
	// Where a record has its body and the time at which its message was born.
	recordBornAt = 40
	recordLeast  = 91
	beyondAll    = int64(1) << 40
	// Failed pulls after which a queue is given up, unless it is followed.
	pullFailures    = 100
	bytesBeforeText = lengthBytes
)

var (
	offsetMark    = []byte(`"queueOffset":"0"`)
	nextOffsetKey = []byte(`"nextBeginOffset":"`)
)

// puller reads queues, one pull in flight for each.
type puller struct {
	follow bool
	queues [][]pullQueue // by connection and slot
	lags   histogram     // ns
	wallMs int64         // when now() was 0
}

// pullQueue is one queue and how far it was read.
type pullQueue struct {
	before, after []byte // the header around the offset
	offset        int64
	failures      int
}

// pull runs `load pull`.
func pull(o *options) (*result, error) {
	brokers, err := findBrokers(o)
	if err != nil {
		return nil, err
	}
	p := &puller{follow: o.follow, wallMs: origin.UnixMilli()}
	if p.queues, err = sharedOut(o, brokers); err != nil {
		return nil, err
	}
	o.rate = 0
	sockets, err := connect(o, brokers)
	if err != nil {
		return nil, err
	}
	l, err := newLoop(o, p, sockets, func(id int) int { return len(p.queues[id]) })
	if err != nil {
		return nil, err
	}
	l.count, l.abandons = o.count, true
	found, err := l.run()
	if err == nil && p.lags.total > 0 {
		found.Lag = newLag(&p.lags)
	}
	return found, err
}

// sharedOut gives each broker's queues to its connections in turn. Connections are the brokers' in
// turn too, as connect makes them.
func sharedOut(o *options, brokers []broker) ([][]pullQueue, error) {
	queues := make([][]pullQueue, o.connections)
	if o.connections < len(brokers) {
		return nil, fmt.Errorf("%d brokers need as many --connections at least", len(brokers))
	}
	for i, b := range brokers {
		own := (o.connections - i + len(brokers) - 1) / len(brokers)
		for j, p := range placesAt(o, b) {
			id := i + j%own*len(brokers)
			queues[id] = append(queues[id], newPullQueue(o, p))
		}
	}
	return queues, nil
}

// newPullQueue builds the header of a queue's pulls.
func newPullQueue(o *options, p place) pullQueue {
	flags := pullSubscription
	if o.follow {
		flags |= pullSuspends
	}
	text := header(codePull, []field{
		{"queueId", strconv.Itoa(p.queue)}, {"maxMsgNums", strconv.Itoa(o.pullBatch)},
		{"sysFlag", strconv.Itoa(flags)}, {"commitOffset", "0"},
		{"suspendTimeoutMillis", strconv.FormatInt(pullWait.Milliseconds(), 10)},
		{"subscription", "*"}, {"topic", p.topic}, {"queueOffset", "0"},
		{"expressionType", "TAG"}, {"subVersion", "0"}, {"consumerGroup", o.group},
	})
	cut := bytes.Index(text, offsetMark) + len(offsetMark) - len(`0"`)
	q := pullQueue{before: text[:cut], after: text[cut+1:]}
	if o.from == "end" {
		// Out of range: the answer says where the end is.
		q.offset = beyondAll
	}
	return q
}

// appendRequest adds the next pull of a queue.
func (p *puller) appendRequest(dst []byte, c *conn, i int, token uint32, _ int64) []byte {
	q := &p.queues[c.id][i]
	at := len(dst)
	dst = append(dst, make([]byte, bytesBeforeText)...)
	dst = append(dst, q.before...)
	dst = strconv.AppendInt(dst, q.offset, 10)
	opaqueAt := len(dst) + bytes.LastIndex(q.after, opaqueKey) + len(opaqueKey)
	dst = append(dst, q.after...)
	putDecimal(dst[opaqueAt:opaqueAt+opaqueDigits], uint64(opaqueBase+token))
	headerBytes := len(dst) - at - bytesBeforeText
	binary.BigEndian.PutUint32(dst[at:], uint32(4+headerBytes))
	binary.BigEndian.PutUint32(dst[at+4:], uint32(headerBytes))
	return dst
}

// next reads an answer of a broker.
func (p *puller) next(_ *conn, data []byte) (answer, int, error) { return nextFrame(data) }

// answered counts the records of a pull, and moves the queue on.
func (p *puller) answered(c *conn, i int, a *answer, now int64) verdict {
	q := &p.queues[c.id][i]
	switch a.code {
	case answerOK, answerRetry, answerOffsetMoved:
		next := int64(number(a.header, nextOffsetKey))
		if next < 0 {
			return verdict{failure: "no nextBeginOffset", over: true}
		}
		q.offset = next
		n, failure := p.records(a.body, now)
		return verdict{messages: n, failure: failure, over: failure != ""}
	case answerNotFound:
		return verdict{over: !p.follow}
	}
	q.failures++
	return verdict{failure: strconv.Itoa(a.code), over: !p.follow && q.failures >= pullFailures}
}

// records counts the records of an answer.
func (p *puller) records(body []byte, now int64) (n int, failure string) {
	wallNs := p.wallMs*int64(time.Millisecond) + now
	for len(body) > 0 {
		if len(body) < recordLeast {
			return n, "half a record"
		}
		size := int(binary.BigEndian.Uint32(body))
		if size < recordLeast || size > len(body) {
			return n, "half a record"
		}
		if p.follow {
			born := int64(binary.BigEndian.Uint64(body[recordBornAt:]))
			p.lags.add(wallNs - born*int64(time.Millisecond))
		}
		body = body[size:]
		n++
	}
	return n, ""
}
