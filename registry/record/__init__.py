"""How a run is recorded: the journal, the observer that writes it, liveness, logged series."""
