"""What a server keeps for its readers: connection, index, explainer, presences."""
