"""mqadmin: the operators' command line."""
