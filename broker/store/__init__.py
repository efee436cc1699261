"""What the broker keeps on disk besides the log itself."""
