"""Protobuf to model: pure, and refuses with the name of the field what core must never see."""
