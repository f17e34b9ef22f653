"""All that talks to MongoDB: connection, embedded server, queries, documents, projection."""
