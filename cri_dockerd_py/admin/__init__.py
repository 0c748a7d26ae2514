"""The admin edge: a second socket, for root alone, on which a running service is looked at and driven."""
