"""The gRPC edge: CRI v1 (and v1alpha2) messages in, calls to core, messages out."""
