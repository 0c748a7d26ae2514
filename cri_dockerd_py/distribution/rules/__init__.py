"""What registries and clients owe each other, decided without I/O: no sockets, files, clocks, tasks or logs."""
