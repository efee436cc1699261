"""One module a noun, each with its click commands."""
