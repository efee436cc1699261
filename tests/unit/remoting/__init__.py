"""Tests of ledgermq.remoting."""
