"""What a CRI node does, the same on every engine."""
