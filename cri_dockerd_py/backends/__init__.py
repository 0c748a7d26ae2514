"""The engines, each behind the interface in `base`."""
