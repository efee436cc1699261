package main

import (
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"send", "--name-server", "h:1", "--in-flight", "64", "--seconds", "2.5"})
	if err != nil || o.inFlight != 64 || o.duration != 2500*time.Millisecond || o.warmUp != time.Second {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestBadOptions(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"fly"},
		{"send"},
		{"send", "--name-server", "h:1", "--broker", "h:2"},
		{"send", "--name-server", "h:1", "--size", "8"},
		{"send", "--name-server", "h:1", "--connections", "0"},
		{"send", "--name-server", "h:1", "--seconds", "0"},
		{"send", "--name-server", "h:1", "extra"},
		{"pull"},
		{"pull", "--broker", "h:1", "--from", "middle"},
		{"echo"},
		{"outage", "--broker", "h:1"},
		{"nats-send"},
		{"nats-send", "--servers", "h:1", "--batch", "2"},
	} {
		if o, err := parseOptions(args); err == nil {
			t.Errorf("%q is taken: %+v", args, o)
		}
	}
}
