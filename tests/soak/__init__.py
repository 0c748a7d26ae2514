"""A node with both engines under churn and faults, for a chosen time: `make soak`."""
