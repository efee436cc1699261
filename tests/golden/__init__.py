"""Bytes captured from Java RocketMQ 4.9.5 and 5.3.3, and what we make of them."""
