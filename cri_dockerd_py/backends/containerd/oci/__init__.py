"""OCI runtime specs for sandboxes and containers: pure, values in and values out."""
