//go:build linux

package main

import (
	"encoding/binary"
	"testing"
)

// records builds n records of 100 bytes, born at 0.
func testRecords(n int) []byte {
	data := make([]byte, 100*n)
	for i := range n {
		binary.BigEndian.PutUint32(data[100*i:], 100)
	}
	return data
}

func testPuller(from string) *puller {
	o := &options{topic: "T", topics: 1, queues: 2, connections: 1, pullBatch: 32, group: "G", from: from}
	queues, _ := sharedOut(o, []broker{{"b", ""}})
	return &puller{queues: queues}
}

func TestPullMovesItsQueueOn(t *testing.T) {
	p, c := testPuller("start"), &conn{}
	before := readSent(t, p.appendRequest(nil, c, 1, 3, 0))[0]
	if before.Code != codePull || before.Ext["queueOffset"] != "0" || before.Ext["queueId"] != "1" {
		t.Errorf("%+v", before)
	}
	a := answer{header: []byte(`{"code":0,"extFields":{"nextBeginOffset":"1234"}}`), body: testRecords(5)}
	if got := p.answered(c, 1, &a, 0); got != (verdict{messages: 5}) {
		t.Errorf("%+v", got)
	}
	after := readSent(t, p.appendRequest(nil, c, 1, 4, 0))[0]
	if after.Ext["queueOffset"] != "1234" || after.Opaque != opaqueBase+4 {
		t.Errorf("%+v", after)
	}
}

func TestPullEnds(t *testing.T) {
	p, c := testPuller("start"), &conn{}
	end := answer{code: answerNotFound}
	if got := p.answered(c, 0, &end, 0); !got.over {
		t.Errorf("at the end of the queue: %+v", got)
	}
	p.follow = true
	if got := p.answered(c, 0, &end, 0); got.over {
		t.Errorf("following: %+v", got)
	}
	cut := answer{header: []byte(`{"code":0,"extFields":{"nextBeginOffset":"5"}}`), body: testRecords(2)[:150]}
	if got := p.answered(c, 0, &cut, 0); got.failure == "" {
		t.Errorf("half a record: %+v", got)
	}
}

func TestPullFromTheEndAsksBeyondIt(t *testing.T) {
	p := testPuller("end")
	if got := readSent(t, p.appendRequest(nil, &conn{}, 0, 3, 0))[0]; got.Ext["queueOffset"] != "1099511627776" {
		t.Errorf("%+v", got)
	}
}

func TestQueuesAreSharedOutAmongConnections(t *testing.T) {
	o := &options{topic: "T", topics: 1, queues: 5, connections: 3, group: "G"}
	queues, err := sharedOut(o, []broker{{"a", ""}, {"b", ""}})
	if err != nil || len(queues[0]) != 3 || len(queues[1]) != 5 || len(queues[2]) != 2 {
		t.Errorf("%d, %d and %d queues, %v", len(queues[0]), len(queues[1]), len(queues[2]), err)
	}
	o.connections = 1
	if _, err := sharedOut(o, []broker{{"a", ""}, {"b", ""}}); err == nil {
		t.Error("one connection for two brokers")
	}
}
