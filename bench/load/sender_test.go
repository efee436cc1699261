//go:build linux

package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
)

// sent is a request as a broker would read it.
type sent struct {
	Code   int               `json:"code"`
	Opaque int               `json:"opaque"`
	Ext    map[string]string `json:"extFields"`
	body   []byte
}

// readSent reads the requests of a buffer.
func readSent(t *testing.T, data []byte) (all []sent) {
	t.Helper()
	for len(data) > 0 {
		a, size, err := nextFrame(data)
		if err != nil || size == 0 {
			t.Fatalf("%d bytes are no request: %v", len(data), err)
		}
		s := sent{body: a.body}
		if err := json.Unmarshal(a.header, &s); err != nil {
			t.Fatalf("%v: %s", err, a.header)
		}
		all, data = append(all, s), data[size:]
	}
	return all
}

func testOptions(batch int) *options {
	return &options{topic: "T", topics: 1, queues: 3, size: 32, batch: batch, group: "G"}
}

func TestSingleSends(t *testing.T) {
	o := testOptions(1)
	s := newSender(o, [][]place{placesAt(o, broker{name: "b"})})
	var data []byte
	for token := range uint32(4) {
		data = s.appendRequest(data, &conn{}, 0, token, 0)
	}
	queues, last := "", s.uniq
	for i, one := range readSent(t, data) {
		queues += one.Ext["e"]
		last++
		if want := fmt.Sprintf("UNIQ_KEY\x01%s%012X\x02WAIT\x01true", uniqPrefix, last); one.Ext["i"] != want {
			t.Errorf("properties %d: %q, not %q", i, one.Ext["i"], want)
		}
		if one.Code != codeSend || one.Opaque != opaqueBase+i || len(one.body) != 32 || one.Ext["n"] != "b" {
			t.Errorf("request %d: %+v", i, one)
		}
		if want := "000000000000000" + string(rune('1'+i)); string(one.body[:16]) != want {
			t.Errorf("body %d begins with %s", i, one.body[:16])
		}
	}
	if queues != "0120" {
		t.Errorf("queues %s", queues)
	}
}

func TestBatchHoldsRecords(t *testing.T) {
	o := testOptions(3)
	s := newSender(o, [][]place{placesAt(o, broker{name: "b"})})
	one := readSent(t, s.appendRequest(nil, &conn{}, 0, 5, 0))[0]
	if one.Code != codeSendBatch || one.Ext["m"] != "true" || one.Ext["i"] != "WAIT\x01true" {
		t.Errorf("%+v", one)
	}
	keys, n := map[string]bool{}, 0
	for body := one.body; len(body) > 0; n++ {
		size := binary.BigEndian.Uint32(body)
		record := body[:size]
		text := record[20 : 20+32]
		properties := string(record[20+32+2:])
		if binary.BigEndian.Uint32(record[16:]) != 32 || text[15] != byte('1'+n) {
			t.Errorf("record %d: %q", n, record)
		}
		if int(binary.BigEndian.Uint16(record[20+32:])) != len(properties) {
			t.Errorf("record %d has %d bytes of properties", n, len(properties))
		}
		keys[properties] = true
		body = body[size:]
	}
	if n != 3 || len(keys) != 3 {
		t.Errorf("%d records, properties %v", n, keys)
	}
}

func TestTopicsChangeWithEverySend(t *testing.T) {
	o := testOptions(1)
	o.topics = 2
	topics := ""
	for _, p := range placesAt(o, broker{}) {
		topics += p.topic + " "
	}
	if topics != "T-0 T-1 T-0 T-1 T-0 T-1 " {
		t.Error(topics)
	}
}

func TestTokensOfASlotAreNeverTheSameTwice(t *testing.T) {
	c := newConn(0, -1, 4)
	i, s := c.take(1)
	first := s.token
	if j, found := c.find(first); found != s || j != i {
		t.Fatal("not found")
	}
	s.busy = false
	c.free = append(c.free, int32(i))
	if _, s = c.take(2); s.token == first {
		t.Errorf("token %d twice", first)
	}
	if _, found := c.find(first); found != nil {
		t.Error("a late answer is taken for the next one's")
	}
}

func TestTokensStayBelowTheLimit(t *testing.T) {
	c := newConn(0, -1, 4)
	c.slots[0].token = tokenLimit - 4
	if i, s := c.take(1); s.token != uint32(i) {
		t.Errorf("slot %d has token %d", i, s.token)
	}
}
