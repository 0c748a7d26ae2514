"""The log room: container output as CRI log files.

`driver.LogDriver` is the door for Docker Engine: a log-driver plugin that dockerd hands a FIFO per container.
Behind it, from pure to effectful:

- `cri_format`, `docker_entry`, `docker_frames`: bytes in, bytes out;
- `journal`, `log_file`: the files that make every chunk arrive exactly once, whatever is killed when;
- `container_log` (FIFO to file), `pump` (the one thread), `room` (all containers, remembered over restarts);
- `plugin_http`, `read_back`: Docker's protocol, and `docker logs`.

Another engine's FIFOs need a `cri_format.Decoder` and `room.LogRoom.attach`; the rest is the same.
"""
