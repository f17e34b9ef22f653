"""Fast, exact array kernels under the metrics: columns, ranking, sums, moments, draws."""
