"""What the zoo costs in seconds and memory, and what other libraries take for the same work."""
