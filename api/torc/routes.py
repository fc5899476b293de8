"""Every endpoint of the torc API."""

from __future__ import annotations

from lading.api.routing import Route
from lading.api.torc import actions, documents, edges, inspection, jobs, workflows

ROUTES: tuple[Route, ...] = (
    *workflows.ROUTES,
    *jobs.ROUTES,
    *documents.ROUTES,
    *edges.ROUTES,
    *actions.ROUTES,
    *inspection.ROUTES,
)
