package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// maxTokens is how many requests a connection may have in flight; tokens have nine digits.
const maxTokens = 1_000_000

// options are the command and its flags; a command ignores what it has no use for.
type options struct {
	command     string
	nameServer  string
	broker      string
	address     string
	servers     string
	subject     string
	link        string
	replicas    int
	topic       string
	group       string
	topics      int
	queues      int
	connections int
	inFlight    int
	size        int
	batch       int
	rate        float64
	warmUp      time.Duration
	duration    time.Duration
	patience    time.Duration
	count       int64
	pullBatch   int
	follow      bool
	from        string
}

// parseOptions reads "COMMAND --flag value …".
func parseOptions(args []string) (*options, error) {
	if len(args) == 0 || !slices.Contains(commandNames, args[0]) {
		return nil, fmt.Errorf("the first argument must be one of %s", strings.Join(commandNames, ", "))
	}
	o := &options{command: args[0]}
	flags := flag.NewFlagSet("load "+o.command, flag.ContinueOnError)
	flags.SetOutput(os.Stderr)
	seconds, warmUp, patience := o.bind(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("what is %q? All options are written --name value", flags.Arg(0))
	}
	o.duration, o.warmUp, o.patience = asTime(*seconds), asTime(*warmUp), asTime(*patience)
	return o, o.check()
}

// commandNames is the order in which help lists the commands.
var commandNames = []string{"send", "pull", "echo", "nats-send", "outage"}

// bind declares all flags; the three times come back as seconds.
func (o *options) bind(flags *flag.FlagSet) (seconds, warmUp, patience *float64) {
	o.bindPeers(flags)
	flags.StringVar(&o.topic, "topic", "LoadTest", "topic; with --topics N the names are T-0 to T-(N-1)")
	flags.StringVar(&o.group, "group", "LoadGroup", "producer or consumer group")
	flags.IntVar(&o.topics, "topics", 1, "number of topics")
	flags.IntVar(&o.queues, "queues", 8, "queues per topic and broker")
	flags.IntVar(&o.connections, "connections", 1, "connections")
	flags.IntVar(&o.inFlight, "in-flight", 1, "requests in flight per connection, at most")
	flags.IntVar(&o.size, "size", 128, "bytes of a message's body")
	flags.IntVar(&o.batch, "batch", 1, "messages per send; 1: single sends")
	flags.Float64Var(&o.rate, "rate", 0, "messages/s offered, latency counts from when a send was due; 0: as fast as answers come")
	flags.Int64Var(&o.count, "count", 0, "pull: end after so many messages; 0: at the end of the queues")
	flags.IntVar(&o.pullBatch, "pull-batch", 32, "pull: messages per pull, at most")
	flags.BoolVar(&o.follow, "follow", false, "pull: wait for new messages until the time is over")
	flags.StringVar(&o.from, "from", "start", "pull: start or end of the queues")
	defaultSeconds, defaultWarmUp := 5.0, 1.0
	if o.command == "pull" {
		defaultSeconds, defaultWarmUp = 60, 0
	}
	seconds = flags.Float64("seconds", defaultSeconds, "seconds to measure, at most")
	warmUp = flags.Float64("warm-up", defaultWarmUp, "seconds before that, not measured")
	patience = flags.Float64("patience", 3, "seconds to wait for an answer (at the end of a run; outage: always)")
	return seconds, warmUp, patience
}

// bindPeers declares the flags that say who is talked to.
func (o *options) bindPeers(flags *flag.FlagSet) {
	flags.StringVar(&o.nameServer, "name-server", "", "host:port of name servers, separated by ;")
	flags.StringVar(&o.broker, "broker", "", "host:port of one broker, instead of a name server")
	flags.StringVar(&o.address, "address", "", "echo: host:port of the server")
	flags.StringVar(&o.servers, "servers", "", "nats-send: host:port of the servers, separated by commas")
	flags.StringVar(&o.subject, "subject", "load", "nats-send: subject, and name of the stream; with --topics N: S.0 to S.(N-1)")
	flags.StringVar(&o.link, "link", "leader", "nats-send: connect to the stream's leader, or to all servers in turn")
	flags.IntVar(&o.replicas, "replicas", 3, "nats-send: replicas of the stream, if it must be created")
}

// check refuses what cannot run.
func (o *options) check() error {
	least := map[string]int{"topics": o.topics, "queues": o.queues, "connections": o.connections,
		"in-flight": o.inFlight, "batch": o.batch, "pull-batch": o.pullBatch, "replicas": o.replicas}
	for name, value := range least {
		if value < 1 {
			return fmt.Errorf("--%s must be at least 1, not %d", name, value)
		}
	}
	switch {
	case o.size < sequenceDigits:
		return fmt.Errorf("--size must be at least %d: a body begins with its sequence number", sequenceDigits)
	case o.inFlight > maxTokens:
		return fmt.Errorf("--in-flight must be at most %d", maxTokens)
	case o.duration <= 0 || o.warmUp < 0 || o.rate < 0:
		return fmt.Errorf("--seconds must be above 0, --warm-up and --rate not below")
	case o.from != "start" && o.from != "end":
		return fmt.Errorf("--from must be start or end, not %q", o.from)
	case o.link != "leader" && o.link != "all":
		return fmt.Errorf("--link must be leader or all, not %q", o.link)
	}
	return o.checkPeer()
}

// checkPeer refuses a command that does not know whom to talk to.
func (o *options) checkPeer() error {
	given := map[string]bool{
		"echo --address":                  o.command != "echo" || o.address != "",
		"nats-send --servers":             o.command != "nats-send" || o.servers != "",
		"outage --name-server":            o.command != "outage" || o.nameServer != "",
		"send --name-server or --broker":  o.command != "send" || (o.nameServer != "") != (o.broker != ""),
		"pull --name-server or --broker":  o.command != "pull" || (o.nameServer != "") != (o.broker != ""),
		"nats-send --batch 1 (no others)": o.command != "nats-send" || o.batch == 1,
	}
	for what, ok := range given {
		if !ok {
			return fmt.Errorf("this needs %s", what)
		}
	}
	return nil
}

// topicNames are the topics of the run.
func (o *options) topicNames() []string { return numbered(o.topic, "-", o.topics) }

// numbered gives name itself for one, else name-0, name-1, ….
func numbered(name, separator string, n int) []string {
	if n == 1 {
		return []string{name}
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%s%d", name, separator, i)
	}
	return names
}

// asTime converts seconds.
func asTime(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
