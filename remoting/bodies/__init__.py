"""Request and reply bodies, one class each, grouped by feature."""
