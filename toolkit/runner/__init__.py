"""The job runner and its guardian: one pair per node of an allocation."""
