"""The dashboard: pages about instances, workflows and workers, drawn by the server.

htmx swaps in what has changed; every page works without scripts as well. No script or style
stands in a page, so that the content security policy can forbid all of them but our files.
"""

from __future__ import annotations

from wfq_server.dashboard.routing import dashboard_routes

__all__ = ["dashboard_routes"]
