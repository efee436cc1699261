"""The broker: topics, queues and consumers on top of the log."""
