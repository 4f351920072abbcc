"""Looking after repositories: check and re-signing; later collection and replication."""
