//go:build linux

package main

import "testing"

func TestPublishHasItsInbox(t *testing.T) {
	o := &options{subject: "s", topics: 2, size: 16, connections: 1}
	s := newNatsSender(o)
	data := s.appendRequest(nil, &conn{}, 0, 7, 0)
	want := "PUB s.0 " + inbox(0) + "100000007 16\r\n0000000000000001\r\n"
	if string(data) != want {
		t.Errorf("%q, not %q", data, want)
	}
	if data = s.appendRequest(nil, &conn{}, 0, 8, 0); string(data[:8]) != "PUB s.1 " {
		t.Errorf("%q", data)
	}
}

func TestNatsAnswers(t *testing.T) {
	for text, want := range map[string]answer{
		"MSG _INBOX.9.0.100000007 1 26\r\n{\"stream\":\"load\", \"seq\":5}\r\n":                                    {token: 7},
		"MSG _INBOX.9.0.100000007 1 57\r\n{\"error\":{\"code\":503,\"err_code\":10077,\"description\":\"x\"}}\r\n": {token: 7, code: 503},
		"HMSG _INBOX.9.0.100000007 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n":                                            {token: 7, code: 503},
		"+OK\r\n":  {skip: true},
		"PING\r\n": {skip: true},
	} {
		c := &conn{}
		a, size, err := (&natsSender{}).next(c, []byte(text))
		if err != nil || size != len(text) || a.token != want.token || a.code != want.code || a.skip != want.skip {
			t.Errorf("%q is read as %+v, size %d, %v", text, a, size, err)
		}
		if text == "PING\r\n" && string(c.out) != "PONG\r\n" {
			t.Errorf("a ping is answered with %q", c.out)
		}
		for cut := range text {
			if _, size, _ := (&natsSender{}).next(c, []byte(text[:cut])); size != 0 {
				t.Errorf("%q is taken for a whole answer", text[:cut])
			}
		}
	}
}

func TestNatsErrorEndsTheConnection(t *testing.T) {
	if _, _, err := (&natsSender{}).next(&conn{}, []byte("-ERR 'Stale Connection'\r\n")); err == nil {
		t.Error("no error")
	}
}
