"""The log on disk: segments, entry index, hard state, recovery."""
