"""The table of metrics, grouped by what they are computed from."""
