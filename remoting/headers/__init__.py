"""Request and reply headers, one class each, grouped by feature."""
