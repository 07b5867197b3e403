"""Health of the node: backlog, age of the oldest study, disk space, versions; also as Prometheus metrics."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, func, select

from dicom_node.config.data_dir import DataDir
from dicom_node.config.served_models import ModelRole, ModelState
from dicom_node.config.settings import Settings
from dicom_node.runtime import logs
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import database
from dicom_node.store.disk_usage import DiskUsage, Forecast, Outlook
from dicom_node.store.reserve import Reserve
from dicom_node.store.states import StudyState
from dicom_node.store.storage_check import StorageCheckSummary, read_summary
from dicom_node.store.tables import study
from dicom_node.web.read_models.node_summary import NodeSummary, read_node_summary

_OPEN: Final = (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.ANALYSING)


@dataclass(frozen=True, slots=True)
class Analysis:
    """Analysis that a worker is at.

    Attributes
    ----------
    study_id, digest
        Number of the study, and hash of its UID.
    host, pid
        Host and process ID of the worker.
    since
        When the worker took the study, in seconds since the epoch.
    """

    study_id: int
    digest: str
    host: str
    pid: int
    since: float


@dataclass(frozen=True, slots=True)
class Health:
    """Health of a node.

    Attributes
    ----------
    analyses
        What the workers are at, the longest first.
    oldest_open
        Time since which the oldest unfinished study waits, in seconds since the epoch; None without one.
    free_bytes, total_bytes
        Free space and size of the disk of the data directory.
    reserve_bytes
        Free space below which films are refused: the reserve of the settings, and what the results of
        accepted films will need.
    forecast
        When the disk will be full.
    warn_days
        Days before that from which the page warns.
    storage
        What the checks of stored files found.
    versions
        Version or value of each component, by name.
    models
        States of the models, in the order of the settings; empty before a worker has started.
    """

    summary: NodeSummary
    analyses: Sequence[Analysis]
    oldest_open: float | None
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    storage: StorageCheckSummary
    forecast: Forecast
    warn_days: float
    versions: Mapping[str, str]
    models: Sequence[ModelState] = ()

    @property
    def waiting(self) -> int:
        """Number of studies that wait for a worker."""
        return self.summary.studies[StudyState.COMPLETE]

    @property
    def full(self) -> bool:
        """True when films are refused because the disk is full."""
        return self.free_bytes < self.reserve_bytes

    @property
    def soon_full(self) -> bool:
        """True when the disk will be full within the days of the setting."""
        left = self.forecast.days_left
        return left is not None and left < self.warn_days


def read_health(engine: Engine, settings: Settings, data_dir: DataDir) -> Health:
    """Query the index and the disk.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    """
    with database.reading(engine) as connection:
        oldest: float | None = connection.execute(
            select(func.min(study.c.first_received_at)).where(study.c.state.in_(_OPEN))
        ).scalar_one()
        analyses = _analyses(connection)
    disk = os.statvfs(data_dir.root)
    free = disk.f_bavail * disk.f_frsize
    reserve = Reserve(engine, data_dir.spool).total_bytes()
    return Health(
        summary=read_node_summary(engine, settings.destinations),
        analyses=analyses,
        oldest_open=oldest,
        free_bytes=free,
        total_bytes=disk.f_blocks * disk.f_frsize,
        reserve_bytes=reserve,
        forecast=DiskUsage(engine).forecast(free - reserve),
        warn_days=settings.retention.warn_days,
        storage=read_summary(engine),
        versions={
            "dicom-node": version("dicom-node"),
            "Python": platform.python_version(),
            "database": engine.dialect.name,
            "model": ", ".join(
                f"{each.bundle or each.url}{'' if each.role is ModelRole.PRIMARY else ' (shadow)'}"
                for each in settings.served_models
            ),
            "gate": settings.worker.gate or "none",
            "device": settings.worker.device,
            # The device that the worker found replaces the one in the settings.
            **_runs_on(data_dir.runs_on),
        },
        models=_model_states(data_dir.model_states),
    )


def _analyses(connection: Connection) -> list[Analysis]:
    rows = connection.execute(
        select(study.c.id, study.c.study_instance_uid, study.c.owner, study.c.updated_at)
        .where(study.c.state == StudyState.ANALYSING, study.c.owner.is_not(None))
        .order_by(study.c.updated_at)
    )
    return [
        Analysis(key, logs.uid_hash(uid), owner.host, owner.pid, since)
        for key, uid, name, since in rows
        if (owner := LeaseOwner.parse(name))
    ]


def _runs_on(path: Path) -> dict[str, str]:
    """Return device and versions of the worker that started last; empty if none has, or while it writes."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _model_states(path: Path) -> list[ModelState]:
    """Return the states that the worker last wrote; none if no worker has, or while it writes."""
    try:
        return [ModelState(**entry) for entry in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


class _Metrics(Collector):
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> list[Metric]:
        health, summary = self._health, self._health.summary
        studies = GaugeMetricFamily("dicom_node_studies", "Studies by state", labels=["state"])
        for state, count in summary.studies.items():
            studies.add_metric([state], count)
        results = GaugeMetricFamily(
            "dicom_node_results", "Results by destination and state", labels=["destination", "state"]
        )
        oldest = GaugeMetricFamily(
            "dicom_node_oldest_waiting_result_seconds",
            "Age of the oldest waiting result",
            labels=["destination"],
        )
        for destination in summary.destinations:
            for each, count in destination.states.items():
                results.add_metric([destination.name, each], count)
            oldest.add_metric([destination.name], _age(destination.oldest))
        return [
            studies,
            results,
            oldest,
            GaugeMetricFamily("dicom_node_queue_depth", "Studies that wait for a worker", health.waiting),
            GaugeMetricFamily(
                "dicom_node_oldest_open_study_seconds",
                "Age of the oldest unfinished study",
                _age(health.oldest_open),
            ),
            GaugeMetricFamily("dicom_node_disk_free_bytes", "Free space on the disk", health.free_bytes),
            GaugeMetricFamily("dicom_node_disk_total_bytes", "Size of the disk", health.total_bytes),
            GaugeMetricFamily(
                "dicom_node_damaged_files",
                "Stored files that were found damaged and are not mended",
                len(health.storage.damages),
            ),
            GaugeMetricFamily(
                "dicom_node_checked_files", "Stored files that were read and compared", health.storage.files
            ),
            GaugeMetricFamily(
                "dicom_node_disk_reserve_bytes",
                "Free space below which films are refused",
                health.reserve_bytes,
            ),
            GaugeMetricFamily(
                "dicom_node_disk_days_left",
                "Days until films are refused because the disk is full; +Inf: not in sight, NaN: unknown",
                _days_left(health.forecast),
            ),
            InfoMetricFamily(
                "dicom_node_build",
                "Versions. RESEARCH USE ONLY",
                {name.lower().replace("-", "_"): value for name, value in health.versions.items()},
            ),
        ]


def _days_left(forecast: Forecast) -> float:
    if forecast.days_left is not None:
        return forecast.days_left
    return math.inf if forecast.outlook is Outlook.STEADY else math.nan


def _age(since: float | None) -> float:
    return 0 if since is None else time.time() - since


def prometheus_text(health: Health) -> bytes:
    """Return the health of a node in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Metrics(health))
    return generate_latest(registry)
