"""Raft without I/O: events in, effects out."""
