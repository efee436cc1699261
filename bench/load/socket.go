//go:build linux

package main

import (
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"
)

const (
	dialTimeout = 3 * time.Second
	// What one call of wait can report.
	eventsAtOnce = 256
	// The kernel may be late by this much when a wait times out; its default is 50 us.
	timerSlackNs    = 1000
	prSetTimerSlack = 29
)

// poller waits for sockets. The runtime's own poller is not used: it costs a read that finds nothing
// and a goroutine switch for each message of a connection with one in flight.
type poller struct {
	fd     int
	events [eventsAtOnce]syscall.EpollEvent
}

// newPoller makes a poller for the calling thread.
func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	// A kernel without it is just less exact.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, timerSlackNs, 0)
	return &poller{fd: fd}, nil
}

// watch reports id when fd can be read, and with writing when it can be written.
func (p *poller) watch(fd, id int, writing, known bool) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(id)}
	if writing {
		event.Events |= syscall.EPOLLOUT
	}
	operation := syscall.EPOLL_CTL_ADD
	if known {
		operation = syscall.EPOLL_CTL_MOD
	}
	return syscall.EpollCtl(p.fd, operation, fd, &event)
}

// wait gives what is ready, after at most that many ns; rounded up to ms, unless it must be exact,
// which costs one more call.
func (p *poller) wait(ns int64, exact bool) ([]syscall.EpollEvent, error) {
	ms := int((max(ns, 0) + 999_999) / 1_000_000)
	if exact && ns > 0 {
		if err := p.sleep(ns); err != nil {
			return nil, err
		}
		ms = 0
	}
	// Raw, as all calls of the loop: to a call that it knows of, the runtime reacts by waking a thread
	// of its own every 20 us, which costs more than the messages do.
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.fd),
		uintptr(unsafe.Pointer(&p.events[0])), eventsAtOnce, uintptr(ms), 0, 0)
	switch errno {
	case 0:
		return p.events[:n], nil
	case syscall.EINTR:
		return nil, nil
	}
	return nil, fmt.Errorf("epoll_wait: %w", errno)
}

// sleep returns when something is ready or the time is over.
func (p *poller) sleep(ns int64) error {
	waited := struct {
		fd              int32
		events, revents int16
	}{int32(p.fd), 1, 0}
	limit := syscall.NsecToTimespec(ns)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&waited)), 1,
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 && errno != syscall.EINTR {
		return fmt.Errorf("ppoll: %w", errno)
	}
	return nil
}

// takeOver gives the bare socket of a connection, which is closed for the runtime.
func takeOver(nc net.Conn) (int, error) {
	defer nc.Close()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(own uintptr) { fd, dupErr = syscall.Dup(int(own)) }); err != nil {
		return -1, err
	}
	return fd, dupErr
}

// readSome reads without waiting; 0 and no error when there is nothing.
func readSome(fd int, into []byte) (n int, closed bool, err error) {
	got, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd),
		uintptr(unsafe.Pointer(&into[0])), uintptr(len(into)))
	switch errno {
	case 0:
		return int(got), got == 0, nil
	case syscall.EAGAIN, syscall.EINTR:
		return 0, false, nil
	}
	return 0, false, errno
}

// writeSome writes what the socket takes without waiting.
func writeSome(fd int, data []byte) (int, error) {
	put, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd),
		uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)))
	switch errno {
	case 0:
		return int(put), nil
	case syscall.EAGAIN, syscall.EINTR:
		return 0, nil
	}
	return 0, errno
}
