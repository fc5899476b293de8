"""Scheduler backends, found through the entry-point group `lading.schedulers`."""
