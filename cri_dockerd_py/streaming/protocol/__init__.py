"""The wire formats of streaming sessions: bytes in, events out; no sockets, clocks, tasks or logs."""
