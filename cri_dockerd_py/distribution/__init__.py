"""Images from registries: what to ask, whom, and in which order; where the blobs go is the caller's sink."""
