//go:build linux

package main

import (
	"fmt"
	"net"
)

// send runs `load send`.
func send(o *options) (*result, error) {
	brokers, err := findBrokers(o)
	if err != nil {
		return nil, err
	}
	if err := createTopics(o, brokers); err != nil {
		return nil, err
	}
	return sendTo(o, brokers)
}

// echo runs `load echo`: the frames of send for a server that only answers.
func echo(o *options) (*result, error) { return sendTo(o, []broker{{"", o.address}}) }

func sendTo(o *options, brokers []broker) (*result, error) {
	sockets, err := connect(o, brokers)
	if err != nil {
		return nil, err
	}
	places := make([][]place, o.connections)
	for id := range places {
		places[id] = placesAt(o, brokers[id%len(brokers)])
	}
	l, err := newLoop(o, newSender(o, places), sockets, func(int) int { return o.inFlight })
	if err != nil {
		return nil, err
	}
	return l.run()
}

// connect opens the connections of the run, to the brokers in turn.
func connect(o *options, brokers []broker) ([]int, error) {
	var sockets []int
	for id := range o.connections {
		address := brokers[id%len(brokers)].address
		nc, err := net.DialTimeout("tcp", address, dialTimeout)
		if err != nil {
			return nil, err
		}
		fd, err := takeOver(nc)
		if err != nil {
			return nil, fmt.Errorf("socket to %s: %w", address, err)
		}
		sockets = append(sockets, fd)
	}
	return sockets, nil
}

// placesAt are all queues at a broker: queue by queue, so that one who goes round them changes the
// topic with every step.
func placesAt(o *options, b broker) []place {
	var places []place
	for queue := range o.queues {
		for _, topic := range o.topicNames() {
			places = append(places, place{topic, b.name, queue})
		}
	}
	return places
}
