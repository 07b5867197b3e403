"""Child processes of the node: hidden commands that the supervisor starts."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.cli.context import settings_of
from dicom_node.config.settings import Settings
from dicom_node.runtime import readiness

app = typer.Typer(help="Child processes that the supervisor starts.", no_args_is_help=True)

_ListenFd = Annotated[
    int, typer.Option("--listen-fd", help="inherited file descriptor of a listening socket")
]


@app.command()
def scp(ctx: typer.Context, listen_fd: _ListenFd) -> None:
    """Receive associations on an inherited socket."""
    from dicom_node.dimse.server.scp import run_scp

    readiness.keep_alive()
    run_scp(settings_of(ctx), listen_fd)


@app.command()
def sweep(ctx: typer.Context) -> None:
    """Queue the studies that are due."""
    from worker.sweep import run_sweep

    readiness.keep_alive()
    run_sweep(settings_of(ctx))


@app.command()
def worker(ctx: typer.Context) -> None:
    """Analyse the studies in the queue."""
    from worker.tasks import run_worker

    settings = settings_of(ctx)
    _confine_decoders(settings)
    run_worker(settings)


@app.command()
def sender(ctx: typer.Context) -> None:
    """Send results to the destinations."""
    from dicom_node.delivery.sender import run_sender

    readiness.keep_alive()
    run_sender(settings_of(ctx))


@app.command()
def web(ctx: typer.Context, listen_fd: _ListenFd) -> None:
    """Serve the reading room on an inherited socket."""
    from dicom_node.web.server import run_web

    readiness.keep_alive()
    settings = settings_of(ctx)
    _confine_decoders(settings)
    run_web(settings, listen_fd)


@app.command()
def audit(ctx: typer.Context) -> None:
    """Send the audit trail to the syslog server."""
    from dicom_node.delivery.audit_forwarder import run_forwarder

    readiness.keep_alive()
    run_forwarder(settings_of(ctx))


def _confine_decoders(settings: Settings) -> None:
    """Have the decoders of this process read nothing but what the node keeps."""
    from dicom_node.config.data_dir import DataDir
    from dicom_node.imaging.decoder import read_only_below

    data_dir = DataDir(settings)
    read_only_below(data_dir.root, data_dir.spool.root, data_dir.results.root)
