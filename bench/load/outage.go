package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	outagePoll  = 100 * time.Millisecond
	outagePause = 10 * time.Millisecond
	// How often one who waits for an answer looks whether there is another leader.
	outageGlance = 100 * time.Millisecond
	gapsShown    = 5
)

var errLeaderChanged = errors.New("another leader")

// gaps are the longest times without an acknowledgement, longest first.
type gaps struct {
	LongestMs float64 `json:"longest_gap_ms"`
	Gaps      []gap   `json:"gaps"`
	Leaders   []seen  `json:"leaders"`
}

// gap is a time between two acknowledgements, whoever got them.
type gap struct {
	FromUnixMs int64   `json:"from_unix_ms"`
	Ms         float64 `json:"ms"`
}

// seen is a leader and when the route first named it.
type seen struct {
	UnixMs  int64  `json:"unix_ms"`
	Address string `json:"address"`
}

// outageRun is what the connections share.
type outageRun struct {
	o        *options
	leader   atomic.Pointer[string]
	end      time.Time
	sequence atomic.Uint64

	mu       sync.Mutex
	last     time.Time
	messages int64
	times    histogram
	errors   map[string]int64
	longest  []gap
	leaders  []seen
}

// outage runs `load outage`.
func outage(o *options) (*result, error) {
	o.inFlight, o.batch, o.topics = 1, 1, 1
	brokers, err := findBrokers(o)
	if err != nil {
		return nil, err
	}
	if err := createTopics(o, brokers[:1]); err != nil {
		return nil, err
	}
	begin := time.Now()
	r := &outageRun{o: o, end: begin.Add(o.duration), last: begin, errors: map[string]int64{}}
	r.setLeader(brokers[0].address)
	go r.pollRoutes(brokers[0].name)
	cpuBefore := cpuTime()
	var all sync.WaitGroup
	for id := range o.connections {
		all.Add(1)
		go func() {
			defer all.Done()
			r.keepSending(id, brokers[0].name)
		}()
	}
	all.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	found := newResult(r.messages, time.Since(begin), cpuTime()-cpuBefore, &r.times, r.errors)
	found.AllMessages = r.messages
	found.Outage = r.report()
	return found, nil
}

// report gives the gaps; one that was open at the end counts too.
func (r *outageRun) report() *gaps {
	r.addGap(time.Now())
	g := &gaps{Gaps: r.longest, Leaders: r.leaders}
	if len(g.Gaps) > 0 {
		g.LongestMs = g.Gaps[0].Ms
	}
	return g
}

func (r *outageRun) setLeader(address string) {
	r.leader.Store(&address)
	r.mu.Lock()
	r.leaders = append(r.leaders, seen{time.Now().UnixMilli(), address})
	r.mu.Unlock()
}

// pollRoutes follows the leader of one broker name.
func (r *outageRun) pollRoutes(name string) {
	for time.Now().Before(r.end) {
		time.Sleep(outagePoll)
		found, err := routeOf(r.o.nameServer, r.o.topic, time.Second)
		if err != nil {
			continue
		}
		for _, b := range found.masters() {
			if b.name == name && b.address != *r.leader.Load() {
				r.setLeader(b.address)
			}
		}
	}
}

// keepSending connects to the leader and sends, again and again.
func (r *outageRun) keepSending(id int, name string) {
	s := newSender(r.o, [][]place{placesAt(r.o, broker{name: name})})
	s.turns[0] = id % r.o.queues
	for time.Now().Before(r.end) {
		address := r.leader.Load()
		err := r.sendTo(address, s)
		if err != nil && !errors.Is(err, errLeaderChanged) {
			r.fail(err)
		}
		time.Sleep(outagePause)
	}
}

// sendTo sends to one leader until that fails, there is another, or the time is over.
func (r *outageRun) sendTo(address *string, s *sender) error {
	nc, err := net.DialTimeout("tcp", *address, time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := &conn{id: 0}
	var request []byte
	for token := uint32(0); time.Now().Before(r.end); token = (token + 1) % tokenLimit {
		// Messages of all connections have one sequence.
		s.sequence = r.sequence.Add(1) - 1
		request = s.appendRequest(request[:0], c, 0, token, now())
		begin := time.Now()
		if _, err := nc.Write(request); err != nil {
			return err
		}
		a, err := r.await(nc, address, begin)
		if err != nil {
			return err
		}
		if a.code != answerOK {
			return fmt.Errorf("%d", a.code)
		}
		r.acknowledged(begin)
	}
	return nil
}

// await waits for an answer as long as the leader is the same and there is patience.
func (r *outageRun) await(nc net.Conn, address *string, begin time.Time) (*answer, error) {
	first := make([]byte, 1)
	for {
		if err := nc.SetReadDeadline(time.Now().Add(outageGlance)); err != nil {
			return nil, err
		}
		_, err := nc.Read(first)
		switch {
		case err == nil:
			if err := nc.SetReadDeadline(begin.Add(r.o.patience)); err != nil {
				return nil, err
			}
			return readAnswer(io.MultiReader(bytes.NewReader(first), nc))
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case r.leader.Load() != address:
			return nil, errLeaderChanged
		case time.Since(begin) > r.o.patience || time.Now().After(r.end):
			return nil, errors.New("no answer")
		}
	}
}

// acknowledged counts a message sent at begin.
func (r *outageRun) acknowledged(begin time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := time.Now()
	r.addGap(at)
	r.last = at
	r.messages++
	r.times.add(int64(at.Sub(begin)))
}

// addGap keeps the longest gaps; mu is held.
func (r *outageRun) addGap(at time.Time) {
	ms := round(float64(at.Sub(r.last))/float64(time.Millisecond), 3)
	if len(r.longest) == gapsShown && ms <= r.longest[gapsShown-1].Ms {
		return
	}
	r.longest = append(r.longest, gap{r.last.UnixMilli(), ms})
	slices.SortStableFunc(r.longest, func(a, b gap) int {
		if a.Ms > b.Ms {
			return -1
		}
		return 1
	})
	r.longest = r.longest[:min(len(r.longest), gapsShown)]
}

// fail counts a problem; the first of its kind is shown.
func (r *outageRun) fail(err error) {
	name := shortText(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.errors[name] == 0 {
		warn("%v", err)
	}
	r.errors[name]++
}
