package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const askTimeout = 5 * time.Second

// remark gives the text of a failed answer.
func (a *answer) remark() string { return fmt.Sprintf("code %d, %.300s", a.code, a.header) }

// ask sends one request on a connection of its own and gives the answer.
func ask(address string, code int, fields []field, timeout time.Duration) (*answer, error) {
	nc, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	return askOn(nc, frame(code, fields, nil), timeout)
}

// askOn sends one request on a connection that has none in flight.
func askOn(nc net.Conn, request []byte, timeout time.Duration) (*answer, error) {
	if err := nc.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if _, err := nc.Write(request); err != nil {
		return nil, err
	}
	return readAnswer(nc)
}

// readAnswer reads one answer, and not a byte more.
func readAnswer(from io.Reader) (*answer, error) {
	data := make([]byte, lengthBytes)
	if _, err := io.ReadFull(from, data); err != nil {
		return nil, err
	}
	size := 4 + int(binary.BigEndian.Uint32(data))
	if size < lengthBytes || size > maxFrame {
		return nil, fmt.Errorf("not a RocketMQ answer: %q", data)
	}
	data = append(data, make([]byte, size-lengthBytes)...)
	if _, err := io.ReadFull(from, data[lengthBytes:]); err != nil {
		return nil, err
	}
	a, _, err := nextFrame(data)
	return &a, err
}

// askAny asks the name servers of a list separated by ; until one answers.
func askAny(addresses string, code int, fields []field, timeout time.Duration) (a *answer, err error) {
	for _, address := range strings.Split(addresses, ";") {
		if a, err = ask(address, code, fields, timeout); err == nil {
			return a, nil
		}
	}
	return nil, err
}
