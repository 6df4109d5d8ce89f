"""Real servers on free ports of this machine, for the tests and for `make dev-servers`."""
