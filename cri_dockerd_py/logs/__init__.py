"""The log room: container output as CRI log files.

`driver.LogDriver` is the door for Docker Engine: a log-driver plugin that dockerd hands a FIFO per container.
`outputs.ContainerOutputs` is the door for containerd, whose shims write raw bytes into two FIFOs of ours; attached
clients get them as well. Behind both, from pure to effectful:

- `cri_format`, `docker_entry`, `docker_frames`, `raw_stream`: bytes in, bytes out;
- `journal`, `log_file`: the files that make every chunk arrive exactly once, whatever is killed when;
- `source`, `container_log` (FIFO to file), `tee` (to clients), `pump` (the one thread), `room` (all containers,
  remembered over restarts), `output_room` (those whose end is told by the engine), `state_lock`;
- `plugin_http`, `read_back`: Docker's protocol, and `docker logs`.
"""
