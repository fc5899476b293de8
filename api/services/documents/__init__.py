"""Use cases of the documents that people and runners store and read."""
