"""Tests of the short way of sends."""
