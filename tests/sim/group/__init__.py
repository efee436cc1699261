"""Whole groups of real replicas in a simulated world: one seed is one run.

`python -m tests.sim.group --help` runs seeds; `docs/testing.md` says how to read what it prints.

A run is made of: `character` (what the seed decides), `group` and `member` (replicas and their
lives), `work` (what clients and operators do), `nemesis` and `faults` (what goes wrong), `watch`
(wrappers that see every step), `rules` and `truth` (what must hold), `marks` (what has to happen
now and then for a run to be worth anything), `run` (trouble, then peace) and `report`.
"""
