"""Hypothesis without deadlines (a busy machine is no failure), and repeatable in CI."""

import os

from hypothesis import settings

settings.register_profile("ledgermq", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("ledgermq")
