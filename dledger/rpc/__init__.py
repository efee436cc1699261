"""Frames between the members of a group."""
