"""Whether the node can work: what waits, where, how old it is, and how much room there is.

The same as a page and as Prometheus metrics.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, func, select

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store import database
from dicom_node.store.states import StudyState
from dicom_node.store.tables import study
from dicom_node.web.read_models.worklist import Overall, read_overall

_OPEN: Final = (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.ANALYSING)


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a node; times in seconds.

    Attributes
    ----------
    oldest_open
        Since when the longest unfinished study waits; None when none does.
    free_bytes, reserve_bytes
        On the disk of the data directory, and below which no film is taken.
    versions
        By name.
    """

    overall: Overall
    oldest_open: float | None
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    versions: Mapping[str, str]

    @property
    def waiting(self) -> int:
        """Studies that a worker is still to read."""
        return self.overall.studies[StudyState.COMPLETE]

    @property
    def full(self) -> bool:
        """Whether films are refused for want of room."""
        return self.free_bytes < self.reserve_bytes


def read_health(engine: Engine, settings: Settings, data_dir: DataDir) -> Health:
    """Ask the index and the disk.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    """
    with database.reading(engine) as connection:
        oldest: float | None = connection.execute(
            select(func.min(study.c.first_received_at)).where(study.c.state.in_(_OPEN))
        ).scalar_one()
    disk = os.statvfs(data_dir.root)
    return Health(
        overall=read_overall(engine, settings.destinations),
        oldest_open=oldest,
        free_bytes=disk.f_bavail * disk.f_frsize,
        total_bytes=disk.f_blocks * disk.f_frsize,
        reserve_bytes=settings.dicom.min_free_bytes,
        versions={
            "dicom-node": version("dicom-node"),
            "Python": platform.python_version(),
            "database": engine.dialect.name,
            "model": settings.worker.bundle,
            "gate": settings.worker.gate or "none",
            "device": settings.worker.device,
            # Better than what is set: what was found.
            **_runs_on(data_dir.runs_on),
        },
    )


def _runs_on(path: Path) -> dict[str, str]:
    """Return what the worker that started last runs on; empty before the first, and while it writes."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


class _Metrics(Collector):
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> list[Metric]:
        health, overall = self._health, self._health.overall
        studies = GaugeMetricFamily("dicom_node_studies", "Studies by state", labels=["state"])
        for state, count in overall.studies.items():
            studies.add_metric([state], count)
        results = GaugeMetricFamily(
            "dicom_node_results", "Results by destination and state", labels=["destination", "state"]
        )
        oldest = GaugeMetricFamily(
            "dicom_node_oldest_waiting_result_seconds", "Age of the oldest", labels=["destination"]
        )
        for line in overall.destinations:
            for each, count in line.states.items():
                results.add_metric([line.name, each], count)
            oldest.add_metric([line.name], 0 if line.oldest is None else time.time() - line.oldest)
        waits = 0 if health.oldest_open is None else time.time() - health.oldest_open
        return [
            studies,
            results,
            oldest,
            GaugeMetricFamily("dicom_node_queue_depth", "Studies that a worker is to read", health.waiting),
            GaugeMetricFamily("dicom_node_oldest_open_study_seconds", "Age of the oldest", waits),
            GaugeMetricFamily("dicom_node_disk_free_bytes", "Of the data directory", health.free_bytes),
            GaugeMetricFamily("dicom_node_disk_total_bytes", "Of the data directory", health.total_bytes),
            InfoMetricFamily(
                "dicom_node_build",
                "Versions. RESEARCH USE ONLY",
                {name.lower().replace("-", "_"): value for name, value in health.versions.items()},
            ),
        ]


def metrics(health: Health) -> bytes:
    """Write a node's health in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Metrics(health))
    return generate_latest(registry)
