//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

var (
	lineEnd   = []byte("\r\n")
	natsError = []byte(`"error":`)
	natsHead  = []byte("NATS/1.0 ")
)

// natsSender publishes with an inbox for the answer whose last part is the token.
type natsSender struct {
	publishes [][]natsPublish // by connection
	turns     []int           // by connection
	body      []byte
	sequence  uint64
}

// natsPublish is the line before a message on one subject.
type natsPublish struct {
	line    []byte
	tokenAt int
}

// natsSend runs `load nats-send`.
func natsSend(o *options) (*result, error) {
	servers := strings.Split(o.servers, ",")
	if err := waitFor("all replicas of stream "+o.subject, func() error { return ensureStream(o, servers[0]) }); err != nil {
		return nil, err
	}
	if o.link == "leader" {
		leader, err := findStreamLeader(o, servers)
		if err != nil {
			return nil, err
		}
		servers = []string{leader}
	}
	s := newNatsSender(o)
	var sockets []int
	for id := range o.connections {
		fd, err := natsSocket(servers[id%len(servers)], inbox(id)+"*")
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, fd)
	}
	l, err := newLoop(o, s, sockets, func(int) int { return o.inFlight })
	if err != nil {
		return nil, err
	}
	return l.run()
}

// inbox is the start of the subjects on which a connection gets its answers.
func inbox(id int) string { return fmt.Sprintf("_INBOX.%d.%d.", os.Getpid(), id) }

func newNatsSender(o *options) *natsSender {
	s := &natsSender{body: make([]byte, o.size+len(lineEnd))}
	for i := range s.body {
		s.body[i] = 'a' + byte(i%26)
	}
	copy(s.body[o.size:], lineEnd)
	for id := range o.connections {
		var own []natsPublish
		for _, subject := range numbered(o.subject, ".", o.topics) {
			start := "PUB " + subject + " " + inbox(id)
			line := fmt.Sprintf("%s%d %d\r\n", start, opaqueBase, o.size)
			own = append(own, natsPublish{[]byte(line), len(start)})
		}
		s.publishes = append(s.publishes, own)
		s.turns = append(s.turns, id%len(own))
	}
	return s
}

// appendRequest adds a message on the connection's next subject.
func (s *natsSender) appendRequest(dst []byte, c *conn, _ int, token uint32, _ int64) []byte {
	publishes := s.publishes[c.id]
	p := &publishes[s.turns[c.id]]
	if s.turns[c.id]++; s.turns[c.id] == len(publishes) {
		s.turns[c.id] = 0
	}
	at := len(dst) + p.tokenAt
	dst = append(dst, p.line...)
	putDecimal(dst[at:at+opaqueDigits], uint64(opaqueBase+token))
	at = len(dst)
	dst = append(dst, s.body...)
	s.sequence++
	putDecimal(dst[at:at+sequenceDigits], s.sequence)
	return dst
}

// next reads one operation of the server; a PING is answered.
func (s *natsSender) next(c *conn, data []byte) (a answer, size int, err error) {
	end := bytes.Index(data, lineEnd)
	if end < 0 {
		return a, 0, nil
	}
	line := data[:end]
	end += len(lineEnd)
	switch {
	case bytes.HasPrefix(line, []byte("MSG ")), bytes.HasPrefix(line, []byte("HMSG ")):
		return natsAnswer(line, data, end)
	case bytes.Equal(line, []byte("PING")):
		c.out = append(c.out, "PONG\r\n"...)
	case bytes.HasPrefix(line, []byte("-ERR")):
		return a, 0, fmt.Errorf("the server says %s", line)
	}
	return answer{skip: true}, end, nil
}

// natsAnswer reads a MSG or HMSG: subject, own number, sizes; then the payload.
func natsAnswer(line, data []byte, end int) (a answer, size int, err error) {
	bodyBytes := number(line[bytes.LastIndexByte(line, ' '):], []byte(" "))
	if bodyBytes < 0 {
		return a, 0, fmt.Errorf("not an operation of NATS: %.100q", line)
	}
	size = end + bodyBytes + len(lineEnd)
	if len(data) < size {
		return a, 0, nil
	}
	subjectAt := bytes.IndexByte(line, ' ') + 1
	subjectEnd := subjectAt + max(bytes.IndexByte(line[subjectAt:], ' '), 0)
	subject := line[subjectAt:subjectEnd]
	token := number(subject[max(bytes.LastIndexByte(subject, '.'), 0):], []byte("."))
	a = answer{token: uint32(token - opaqueBase), header: line, body: data[end : end+bodyBytes]}
	switch {
	case bytes.HasPrefix(a.body, natsHead):
		// No responders: there is no stream, or nobody leads it.
		a.code = number(a.body, natsHead)
	case bytes.Contains(a.body, natsError):
		a.code = number(a.body, codeKey)
	}
	return a, size, nil
}

// answered counts a message that the stream has stored.
func (s *natsSender) answered(_ *conn, _ int, a *answer, _ int64) verdict {
	if a.code != answerOK {
		return verdict{failure: strconv.Itoa(a.code)}
	}
	return verdict{messages: 1}
}

// streamInfo is the part of an answer about a stream that the load needs.
type streamInfo struct {
	Error *struct {
		Code        int    `json:"code"`
		Description string `json:"description"`
	} `json:"error"`
	Cluster *struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Current bool `json:"current"`
		} `json:"replicas"`
	} `json:"cluster"`
}

// ensureStream creates the stream unless it is there, and sees that it has a leader and all replicas.
func ensureStream(o *options, server string) error {
	n, err := natsDial(server)
	if err != nil {
		return err
	}
	defer n.conn.Close()
	found, err := n.stream("INFO", o.subject, nil)
	if err == nil && found.Error != nil && found.Error.Code == 404 {
		config, _ := json.Marshal(map[string]any{
			"name": o.subject, "subjects": []string{o.subject, o.subject + ".>"},
			"retention": "limits", "storage": "file", "num_replicas": o.replicas,
			"max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "discard": "old",
		})
		found, err = n.stream("CREATE", o.subject, config)
	}
	if err != nil {
		return err
	}
	return found.check(o.replicas)
}

// check tells what a stream still lacks.
func (s *streamInfo) check(replicas int) error {
	switch {
	case s.Error != nil:
		return fmt.Errorf("code %d: %s", s.Error.Code, s.Error.Description)
	case s.Cluster == nil:
		return nil // a server on its own
	case s.Cluster.Leader == "" || len(s.Cluster.Replicas) < replicas-1:
		return fmt.Errorf("leader %q, %d more replicas", s.Cluster.Leader, len(s.Cluster.Replicas))
	}
	for _, r := range s.Cluster.Replicas {
		if !r.Current {
			return errors.New("a replica is behind")
		}
	}
	return nil
}

// findStreamLeader gives the address of the server that leads the stream.
func findStreamLeader(o *options, servers []string) (string, error) {
	var leader string
	for i, server := range servers {
		n, err := natsDial(server)
		if err != nil {
			return "", err
		}
		defer n.conn.Close()
		if i == 0 {
			found, err := n.stream("INFO", o.subject, nil)
			if err != nil {
				return "", err
			}
			if found.Cluster == nil {
				return server, nil
			}
			leader = found.Cluster.Leader
		}
		if n.name == leader {
			return server, nil
		}
	}
	return "", fmt.Errorf("none of %s is %q, the leader of stream %s", o.servers, leader, o.subject)
}
