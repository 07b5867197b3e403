"""Scripts, styles and the viewer: compressed, and asked for again only when they have changed.

They are public and hold no secret, so that their compression tells nobody anything; pages and answers of the
API are neither compressed nor kept.
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
    """Serve the files of a folder."""
    return GZipMiddleware(_Revalidated(directory=folder), minimum_size=1024, compresslevel=6)
