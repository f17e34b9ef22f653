"""What would run and why: the project, tasks with fingerprints and reasons, outputs, sources."""
