"""Views of runs: rows, one run, comparisons, curves, the pipeline."""
