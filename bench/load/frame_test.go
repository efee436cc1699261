package main

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"testing"
)

// An answer of a Java 4.9.5 broker to a send, as captured in tests/golden/data.
const javaAnswer = `{"code":0,"extFields":{"queueId":"3","TRACE_ON":"true","MSG_REGION":"DefaultRegion",` +
	`"msgId":"7F00000100008477000000000000030A","queueOffset":"0"},"flag":1,"language":"JAVA",` +
	`"opaque":100000042,"serializeTypeCurrentRPC":"JSON","version":403}`

func TestAnswerIsFoundWithoutAParser(t *testing.T) {
	data := frameStart([]byte(javaAnswer), 3)
	data = append(data, "abcrest of the next"...)
	a, size, err := nextFrame(data)
	if err != nil || size != len(data)-len("rest of the next") {
		t.Fatalf("size %d of %d, %v", size, len(data), err)
	}
	if a.code != 0 || a.token != 42 || string(a.body) != "abc" {
		t.Errorf("read as %+v", a)
	}
}

func TestAnswerIsIncompleteAtEveryCut(t *testing.T) {
	data := append(frameStart([]byte(javaAnswer), 3), "abc"...)
	for cut := range data {
		if _, size, err := nextFrame(data[:cut]); size != 0 || err != nil {
			t.Fatalf("cut at %d: size %d, %v", cut, size, err)
		}
	}
}

func TestFailureAndOrderOfKeys(t *testing.T) {
	text := `{"opaque":100000007,"remark":"a \"code\":5","extFields":{},"code":14,"flag":1}`
	a, _, err := nextFrame(frameStart([]byte(text), 0))
	if err != nil || a.code != 14 || a.token != 7 {
		t.Errorf("read as %+v, %v", a, err)
	}
}

func TestBinaryHeader(t *testing.T) {
	// Captured: code 25 to opaque 33, language JAVA, version 403.
	data, err := hex.DecodeString("0000001f010000150019000193000000210000000100000000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(data, uint32(len(data)-4))
	data[7] = byte(len(data) - lengthBytes)
	a, size, err := nextFrame(data)
	if err != nil || size != len(data) || a.code != 25 || int32(a.token) != 33-opaqueBase {
		t.Errorf("read as %+v, size %d, %v", a, size, err)
	}
}

func TestGarbageIsRefused(t *testing.T) {
	if _, _, err := nextFrame([]byte("HTTP/1.1 200 OK")); err == nil {
		t.Error("taken for an answer")
	}
}

func TestHeaderIsJSON(t *testing.T) {
	var read struct {
		Code      int               `json:"code"`
		Opaque    int               `json:"opaque"`
		Version   int               `json:"version"`
		ExtFields map[string]string `json:"extFields"`
	}
	text := header(310, []field{{"i", "UNIQ_KEY\x01A\x02WAIT\x01true"}, {"b", "T"}})
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if read.Code != 310 || read.Opaque != opaqueBase || read.ExtFields["i"] != "UNIQ_KEY\x01A\x02WAIT\x01true" {
		t.Errorf("%s is read as %+v", text, read)
	}
}

func TestDigitsFillTheirPlace(t *testing.T) {
	text := []byte("xxxx")
	if putDecimal(text, 42); string(text) != "0042" {
		t.Errorf("decimal %s", text)
	}
	if putHex(text, 0x1ABCD); string(text) != "ABCD" {
		t.Errorf("hexadecimal %s", text)
	}
}
