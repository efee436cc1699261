"""Ledgermq, its Java original, NATS JetStream and a bare echo, measured side by side."""
