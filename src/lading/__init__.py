"""Lading: workflows of thousands to millions of jobs on whatever compute there is."""

__version__ = "0.1.0"
