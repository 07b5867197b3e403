"""Static files: scripts, styles and the viewer, compressed, and revalidated by the browser before each use.

Pages and API responses are neither compressed nor cached: compression can reveal secrets in a response
(BREACH attack), and static files contain none.
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope


class _Revalidated(StaticFiles):
    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def assets(folder: Path) -> ASGIApp:
    """Return an application that serves the files of a folder."""
    return GZipMiddleware(_Revalidated(directory=folder), minimum_size=1024, compresslevel=6)
