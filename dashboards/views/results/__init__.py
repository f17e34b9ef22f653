"""Views of results: one kind of dataset each."""
