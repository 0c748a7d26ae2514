"""Frozen values and pure rules that every room shares: no I/O, no clock, no wire types."""
