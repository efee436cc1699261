//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// natsConn is a connection of NATS while it is set up; it reads not a byte more than it needs.
type natsConn struct {
	conn net.Conn
	name string // of the server
}

// natsDial connects and greets.
func natsDial(address string) (*natsConn, error) {
	nc, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	n := &natsConn{conn: nc}
	if err := n.greet(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("NATS at %s: %w", address, err)
	}
	return n, nil
}

func (n *natsConn) greet() error {
	if err := n.conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return err
	}
	line, err := n.line()
	if err != nil {
		return err
	}
	var info struct {
		Name string `json:"server_name"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		return fmt.Errorf("not a greeting: %.200q", line)
	}
	n.name = info.Name
	return n.settle(`CONNECT {"verbose":false,"pedantic":false,"lang":"go","version":"0","protocol":1,` +
		`"headers":true,"no_responders":true}`)
}

// settle writes a line and waits until the server has taken it.
func (n *natsConn) settle(line string) error {
	if _, err := fmt.Fprintf(n.conn, "%s\r\nPING\r\n", line); err != nil {
		return err
	}
	for {
		switch answer, err := n.line(); {
		case err != nil:
			return err
		case answer == "PONG":
			return nil
		case strings.HasPrefix(answer, "-ERR"):
			return fmt.Errorf("the server says %s", answer)
		}
	}
}

// line reads up to the end of a line, and answers when it is a PING.
func (n *natsConn) line() (string, error) {
	var text []byte
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(n.conn, one); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			break
		}
		text = append(text, one[0])
	}
	line := strings.TrimSuffix(string(text), "\r")
	if line == "PING" {
		_, err := io.WriteString(n.conn, "PONG\r\n")
		return line, err
	}
	return line, nil
}

// stream asks the JetStream API about a stream, or to create it.
func (n *natsConn) stream(verb, name string, body []byte) (*streamInfo, error) {
	to := fmt.Sprintf("_INBOX.%d.setup", os.Getpid())
	if err := n.conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return nil, err
	}
	request := fmt.Sprintf("SUB %s 2\r\nUNSUB 2 1\r\nPUB $JS.API.STREAM.%s.%s %s %d\r\n%s\r\n",
		to, verb, name, to, len(body), body)
	if _, err := io.WriteString(n.conn, request); err != nil {
		return nil, err
	}
	payload, err := n.message()
	if err != nil {
		return nil, err
	}
	found := &streamInfo{}
	if err := json.Unmarshal(payload, found); err != nil {
		return nil, fmt.Errorf("stream %s %s: %.200q", verb, name, payload)
	}
	return found, nil
}

// message reads on to the next message and gives its payload.
func (n *natsConn) message() ([]byte, error) {
	for {
		line, err := n.line()
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(line, "-ERR") {
			return nil, fmt.Errorf("the server says %s", line)
		}
		if !strings.HasPrefix(line, "MSG ") && !strings.HasPrefix(line, "HMSG ") {
			continue
		}
		size := number([]byte(line[strings.LastIndexByte(line, ' '):]), []byte(" "))
		payload := make([]byte, max(size, 0)+len(lineEnd))
		_, err = io.ReadFull(n.conn, payload)
		return payload[:max(size, 0)], err
	}
}

// natsSocket opens a connection that gets the answers on a subject, ready for the loop.
func natsSocket(address, answers string) (int, error) {
	n, err := natsDial(address)
	if err != nil {
		return -1, err
	}
	if err := n.settle("SUB " + answers + " 1"); err != nil {
		n.conn.Close()
		return -1, err
	}
	return takeOver(n.conn)
}
