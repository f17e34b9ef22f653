"""The table of metrics, grouped by what they are computed from."""

from evals.metrics import builtin as builtin  # before others, so that nobody takes their names
