"""The replicated log: a sans-IO Raft core, its store and the shell that runs both."""
