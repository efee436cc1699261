//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"
)

const (
	// A body begins with the number of its message in this run.
	sequenceDigits = 16
	// UNIQ_KEY as a Java client makes it: 127.0.0.1, process, class loader; then 4 bytes of ms and a
	// counter of 2, which together are counted up here.
	uniqPrefix  = "7F00000104D25FFD2B27"
	uniqDigits  = 12
	bornMark    = "1000000000000"
	counterBits = 16
)

// target is the queue that a request goes to, with the request as far as it is always the same.
type target struct {
	start    []byte
	opaqueAt int
	bornAt   int
	uniqAt   int // -1: a batch has none in its header
}

// sender makes sends, single ones or batches, for connections that go round their own targets.
type sender struct {
	batch   int
	targets [][]target // by connection
	turns   []int      // by connection
	body    []byte
	records []recordMarks
	// Of the message made last.
	sequence uint64
	uniq     uint64
	wallMs   int64 // when now() was 0
	bornMs   int64
	born     [len(bornMark)]byte
}

// recordMarks say where a message's own digits are in the body of a request.
type recordMarks struct{ sequenceAt, uniqAt int }

// newSender prepares a sender; targets says what each connection sends to.
func newSender(o *options, places [][]place) *sender {
	wall := origin.UnixMilli()
	s := &sender{batch: o.batch, wallMs: wall, turns: make([]int, len(places))}
	// ms of the month and a counter of 16 bits, in 6 bytes.
	s.uniq = uint64(wall%(31*24*3600*1000)) << counterBits
	s.makeBody(o)
	made := map[place]target{}
	for id, own := range places {
		var targets []target
		for _, p := range own {
			if _, known := made[p]; !known {
				made[p] = newTarget(o, p, len(s.body))
			}
			targets = append(targets, made[p])
		}
		s.targets = append(s.targets, targets)
		s.turns[id] = id % len(targets)
	}
	return s
}

// makeBody builds the body of a request: one message, or the records of a batch.
func (s *sender) makeBody(o *options) {
	text := make([]byte, o.size)
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	if o.batch == 1 {
		s.body, s.records = text, []recordMarks{{0, -1}}
		return
	}
	properties := uniqProperty("\x01", "\x02")
	for range o.batch {
		size := 4*5 + len(text) + 2 + len(properties)
		// Total size, magic, CRC, flag, body size; the broker fills in the second and third itself.
		for _, v := range []int{size, 0, 0, 0, len(text)} {
			s.body = binary.BigEndian.AppendUint32(s.body, uint32(v))
		}
		sequenceAt := len(s.body)
		s.body = append(s.body, text...)
		s.body = binary.BigEndian.AppendUint16(s.body, uint16(len(properties)))
		uniqAt := len(s.body) + bytes.Index([]byte(properties), []byte(uniqPrefix)) + len(uniqPrefix)
		s.body = append(s.body, properties...)
		s.records = append(s.records, recordMarks{sequenceAt, uniqAt})
	}
}

// uniqProperty is the text of the properties of one message, as the 4.9.5 client writes it.
func uniqProperty(between, after string) string {
	zeros := "000000000000"
	return "UNIQ_KEY" + between + uniqPrefix + zeros[:uniqDigits] + after + "WAIT" + between + "true"
}

// newTarget builds the part of a send that does not change.
func newTarget(o *options, p place, bodyBytes int) target {
	code, properties := codeSend, uniqProperty("\x01", "\x02")
	if o.batch > 1 {
		code, properties = codeSendBatch, "WAIT\x01true"
	}
	fields := []field{
		{"a", o.group}, {"b", p.topic}, {"c", "TBW102"}, {"d", "4"},
		{"e", strconv.Itoa(p.queue)}, {"f", "0"}, {"g", bornMark}, {"h", "0"}, {"i", properties},
		{"j", "0"}, {"k", "false"}, {"m", strconv.FormatBool(o.batch > 1)},
	}
	if p.broker != "" {
		fields = append(fields, field{"n", p.broker})
	}
	start := frameStart(header(code, fields), bodyBytes)
	t := target{start: start, uniqAt: -1}
	t.opaqueAt = bytes.LastIndex(start, opaqueKey) + len(opaqueKey)
	t.bornAt = bytes.Index(start, []byte(`"g":"`+bornMark)) + len(`"g":"`)
	if o.batch == 1 {
		t.uniqAt = bytes.Index(start, []byte(uniqPrefix)) + len(uniqPrefix)
	}
	return t
}

// appendRequest adds a send to the connection's next target.
func (s *sender) appendRequest(dst []byte, c *conn, _ int, token uint32, now int64) []byte {
	s.setBorn(now)
	targets := s.targets[c.id]
	t := &targets[s.turns[c.id]]
	if s.turns[c.id]++; s.turns[c.id] == len(targets) {
		s.turns[c.id] = 0
	}
	at := len(dst)
	dst = append(append(dst, t.start...), s.body...)
	start, body := dst[at:at+len(t.start)], dst[at+len(t.start):]
	putDecimal(start[t.opaqueAt:t.opaqueAt+opaqueDigits], uint64(opaqueBase+token))
	copy(start[t.bornAt:], s.born[:])
	for _, r := range s.records {
		s.sequence++
		putDecimal(body[r.sequenceAt:r.sequenceAt+sequenceDigits], s.sequence)
		if r.uniqAt >= 0 {
			putHex(body[r.uniqAt:r.uniqAt+uniqDigits], s.uniq+s.sequence)
		} else {
			putHex(start[t.uniqAt:t.uniqAt+uniqDigits], s.uniq+s.sequence)
		}
	}
	return dst
}

// setBorn keeps the text of the time at which messages are born, in ms since 1970.
func (s *sender) setBorn(now int64) {
	if ms := s.wallMs + (now)/int64(time.Millisecond); ms != s.bornMs {
		s.bornMs = ms
		putDecimal(s.born[:], uint64(ms))
	}
}

// next reads an answer of a broker.
func (s *sender) next(_ *conn, data []byte) (answer, int, error) { return nextFrame(data) }

// answered counts the messages of a send that was stored as asked.
func (s *sender) answered(_ *conn, _ int, a *answer, _ int64) verdict {
	if a.code != answerOK {
		return verdict{failure: strconv.Itoa(a.code)}
	}
	return verdict{messages: s.batch}
}
