"""The read-only view that joins records and datasets, its feed, and notes."""
