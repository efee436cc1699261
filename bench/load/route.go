package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	routeTimeout = 30 * time.Second
	routePause   = 50 * time.Millisecond
	readWrite    = "6"
	defaultTopic = "TBW102"
)

var errNoRoute = errors.New("the name server has no route")

// route is the part of TopicRouteData that the load needs.
type route struct {
	Queues []struct {
		Broker string `json:"brokerName"`
		Read   int    `json:"readQueueNums"`
		Write  int    `json:"writeQueueNums"`
		Perm   int    `json:"perm"`
	} `json:"queueDatas"`
	Brokers []struct {
		Name      string            `json:"brokerName"`
		Addresses map[string]string `json:"brokerAddrs"`
	} `json:"brokerDatas"`
}

// broker is one that takes sends: the master or leader of its name.
type broker struct{ name, address string }

// place is one queue.
type place struct {
	topic  string
	broker string
	queue  int
}

// routeOf asks for the route of a topic; errNoRoute when there is none.
func routeOf(nameServer, topic string, timeout time.Duration) (*route, error) {
	fields := []field{{"topic", topic}, {"acceptStandardJsonOnly", "true"}}
	a, err := askAny(nameServer, codeRoute, fields, timeout)
	switch {
	case err != nil:
		return nil, err
	case a.code == answerNoTopic:
		return nil, errNoRoute
	case a.code != answerOK:
		return nil, fmt.Errorf("route of %s: %s", topic, a.remark())
	}
	found := &route{}
	if err := json.Unmarshal(a.body, found); err != nil {
		return nil, fmt.Errorf("route of %s: %w", topic, err)
	}
	return found, nil
}

// masters are the brokers with id 0, by name.
func (r *route) masters() []broker {
	var found []broker
	for _, b := range r.Brokers {
		if address := b.Addresses["0"]; address != "" {
			found = append(found, broker{b.Name, address})
		}
	}
	slices.SortFunc(found, func(a, b broker) int { return strings.Compare(a.name, b.name) })
	return found
}

// has tells whether every one of the brokers has n queues of the topic.
func (r *route) has(brokers []broker, n int) bool {
	for _, b := range brokers {
		fits := false
		for _, q := range r.Queues {
			fits = fits || q.Broker == b.name && q.Read == n && q.Write == n
		}
		if !fits {
			return false
		}
	}
	return true
}

// findBrokers waits for the brokers that take sends: those of the name server, or the one named.
func findBrokers(o *options) ([]broker, error) {
	if o.broker != "" {
		return []broker{{"", o.broker}}, nil
	}
	var found []broker
	err := waitFor("a broker with id 0 in the route of "+defaultTopic, func() error {
		r, err := routeOf(o.nameServer, defaultTopic, askTimeout)
		if err != nil {
			return err
		}
		if found = r.masters(); len(found) == 0 || len(found) < len(r.Brokers) {
			return fmt.Errorf("only %d of %d have one", len(found), len(r.Brokers))
		}
		return nil
	})
	return found, err
}

// createTopics makes the topics of the run at every broker, and waits until the routes show them.
func createTopics(o *options, brokers []broker) error {
	for _, topic := range o.topicNames() {
		if o.nameServer != "" {
			if r, err := routeOf(o.nameServer, topic, askTimeout); err == nil && r.has(brokers, o.queues) {
				continue
			}
		}
		for _, b := range brokers {
			if err := createTopic(o, topic, b); err != nil {
				return err
			}
		}
	}
	return waitForRoutes(o, brokers)
}

func createTopic(o *options, topic string, b broker) error {
	queues := strconv.Itoa(o.queues)
	fields := []field{
		{"topic", topic}, {"defaultTopic", defaultTopic}, {"readQueueNums", queues},
		{"writeQueueNums", queues}, {"perm", readWrite}, {"topicFilterType", "SINGLE_TAG"},
		{"topicSysFlag", "0"}, {"order", "false"},
	}
	a, err := ask(b.address, codeCreateTopic, fields, askTimeout)
	if err != nil {
		return fmt.Errorf("create topic %s at %s: %w", topic, b.address, err)
	}
	if a.code != answerOK {
		return fmt.Errorf("create topic %s at %s: %s", topic, b.address, a.remark())
	}
	return nil
}

func waitForRoutes(o *options, brokers []broker) error {
	if o.nameServer == "" {
		return nil
	}
	for _, topic := range o.topicNames() {
		what := fmt.Sprintf("%d queues in the route of topic %s", o.queues, topic)
		err := waitFor(what, func() error {
			r, err := routeOf(o.nameServer, topic, askTimeout)
			if err == nil && !r.has(brokers, o.queues) {
				err = fmt.Errorf("the route has %+v", r.Queues)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// waitFor tries until there is no error, or the time for it is over.
func waitFor(what string, try func() error) error {
	end := time.Now().Add(routeTimeout)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %s: %w", routeTimeout, what, err)
		}
		time.Sleep(routePause)
	}
}
