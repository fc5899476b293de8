"""The local backend: job runners on this host."""

from lading.schedulers.local.backend import LocalBackend

__all__ = ["LocalBackend"]
