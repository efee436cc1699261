package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Codes of the RocketMQ protocol that the load uses.
const (
	codePull        = 11
	codeCreateTopic = 17
	codeRoute       = 105
	codeSend        = 310
	codeSendBatch   = 320

	answerOK           = 0
	answerNoTopic      = 17
	answerNotFound     = 19
	answerRetry        = 20
	answerOffsetMoved  = 21
	clientVersion      = 403 // 4.9.5
	maxFrame           = 16 << 20
	lengthBytes        = 8
	serializedBinary   = 1
	binaryOpaqueOffset = 5
)

// The opaque of a request is opaqueBase + its token, so that it always has nine digits.
const (
	opaqueBase   = 100_000_000
	opaqueDigits = 9
	tokenLimit   = 1_000_000_000 - opaqueBase
)

var (
	opaqueKey = []byte(`"opaque":`)
	codeKey   = []byte(`"code":`)
	codeZero  = []byte(`{"code":0,`)
)

// field is one of the extFields of a header.
type field struct{ name, value string }

// header is the JSON header of a request, keys in the order in which Java writes them.
func header(code int, fields []field) []byte {
	text := fmt.Appendf(nil, `{"code":%d,"extFields":{`, code)
	for i, f := range fields {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(append(append(text, quoted(f.name)...), ':'), quoted(f.value)...)
	}
	return fmt.Appendf(text, `},"flag":0,"language":"JAVA","opaque":%d,`+
		`"serializeTypeCurrentRPC":"JSON","version":%d}`, opaqueBase, clientVersion)
}

func quoted(text string) []byte {
	// Texts of ASCII and control characters: no failure is possible.
	data, _ := json.Marshal(text)
	return data
}

// frameStart puts the two lengths before a header.
func frameStart(header []byte, bodyBytes int) []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+bodyBytes))
	data = binary.BigEndian.AppendUint32(data, uint32(len(header)))
	return append(data, header...)
}

// frame is a whole request for a peer that is asked once.
func frame(code int, fields []field, body []byte) []byte {
	return append(frameStart(header(code, fields), len(body)), body...)
}

// nextFrame reads the first answer in data; size 0 when it is not all there.
func nextFrame(data []byte) (a answer, size int, err error) {
	if len(data) < lengthBytes {
		return a, 0, nil
	}
	size = 4 + int(binary.BigEndian.Uint32(data))
	headerBytes := int(binary.BigEndian.Uint32(data[4:]) & 0xFFFFFF)
	if size > maxFrame || headerBytes+lengthBytes > size {
		return a, 0, fmt.Errorf("not a RocketMQ answer: %q", data[:lengthBytes])
	}
	if len(data) < size {
		return a, 0, nil
	}
	a.header, a.body = data[lengthBytes:lengthBytes+headerBytes], data[lengthBytes+headerBytes:size]
	if data[4] == serializedBinary {
		return binaryAnswer(a), size, nil
	}
	return jsonAnswer(a), size, nil
}

// jsonAnswer finds code and opaque by their keys: quotes inside texts are escaped, so that no text
// can hold such a key.
func jsonAnswer(a answer) answer {
	if !bytes.HasPrefix(a.header, codeZero) {
		a.code = number(a.header, codeKey)
	}
	a.token = uint32(number(a.header, opaqueKey) - opaqueBase)
	return a
}

// binaryAnswer reads the header of a server with serializeType ROCKETMQ.
func binaryAnswer(a answer) answer {
	if len(a.header) < binaryOpaqueOffset+4 {
		a.code = -1
		return a
	}
	a.code = int(int16(binary.BigEndian.Uint16(a.header)))
	a.token = binary.BigEndian.Uint32(a.header[binaryOpaqueOffset:]) - opaqueBase
	return a
}

// number reads the decimal digits behind a key; -1 when there are none.
func number(text, key []byte) int {
	at := bytes.Index(text, key)
	if at < 0 {
		return -1
	}
	value, digits := 0, 0
	for _, c := range text[at+len(key):] {
		if c < '0' || c > '9' {
			break
		}
		value, digits = value*10+int(c-'0'), digits+1
	}
	if digits == 0 {
		return -1
	}
	return value
}

// putDecimal writes the last digits of v over all of dst.
func putDecimal(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
}

// putHex writes the last hexadecimal digits of v over all of dst, upper case.
func putHex(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = "0123456789ABCDEF"[v&15]
		v >>= 4
	}
}
