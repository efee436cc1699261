// Load is the lean load generator of the benchmark: one process, one core, raw protocols.
//
//	load send      sends to a name server's brokers or to one broker (codes 310 and 320)
//	load pull      pulls a topic from its first message on, or follows it (code 11)
//	load echo      the frames of send, to a server that answers each of them
//	load nats-send publishes to a JetStream stream and waits for its acknowledgements
//	load outage    one send in flight per connection across changes of the leader
//
// It prints one JSON object; see result. Exit status: 0 when the load ran, with whatever errors, 1
// when it could not begin, 2 for a wrong command line.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
)

// commands maps the name of each command to what it does.
var commands = map[string]func(*options) (*result, error){
	"send":      send,
	"pull":      pull,
	"echo":      echo,
	"nats-send": natsSend,
	"outage":    outage,
}

func main() {
	runtime.GOMAXPROCS(1)
	os.Exit(run(os.Args[1:]))
}

// run executes one command line and gives the exit status.
func run(args []string) int {
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 2
	}
	found, err := commands[o.command](o)
	if err == nil {
		err = found.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "load %s: %v\n", o.command, err)
		return 1
	}
	return 0
}

// warn tells about a problem that does not end the run.
func warn(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "load: "+format+"\n", values...)
}
