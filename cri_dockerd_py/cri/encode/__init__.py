"""Model to protobuf: pure."""
