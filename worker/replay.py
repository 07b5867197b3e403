"""Replay of a study: its results are made again from the stored films and compared byte for byte."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.results import codes, content_rules
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.sr import document
from dicom_node.store.index import Index
from dicom_node.store.prior_pairs import PriorPairs
from dicom_node.store.recorded_results import RecordedResult, RecordedResults
from dicom_node.store.states import StudyState
from models.bundles.bundle import find_bundle, read_bundle
from models.bundles.runtime import ONNX, TORCH
from models.errors import ModelError
from worker.pipeline import predecessors, prior_study
from worker.report_builder import ONNX_PARAMETER
from worker.study_reader import StudyReader, StudyRevision

_SOP_INSTANCE_UID = 0x00080018


@dataclass(frozen=True, slots=True)
class ReplayedResult:
    """Comparison of one stored result with the one made again.

    Attributes
    ----------
    kind
        Kind of result, such as ``sr``.
    sop_instance_uid
        SOP Instance UID of the stored result, or of a new one that was not stored.
    difference
        First difference, as one sentence; empty when every byte is the same.
    """

    kind: str
    sop_instance_uid: str
    difference: str


def replay(settings: Settings, index: Index, study_instance_uid: str) -> list[ReplayedResult]:
    """Analyse a study again with the bundle that its report names, and compare the results.

    The kinds of result and the SOP class of the reports are the stored ones, not those of the settings.

    Parameters
    ----------
    settings
        Settings of the node. Their bundle is used if it is the recorded one, else the shipped bundle of the
        recorded name.
    index
        Database of the node.
    study_instance_uid
        Study to replay.

    Raises
    ------
    NodeError
        If the study has no results to compare with, or the recorded bundle is not installed.
    """
    results = RecordedResults(index.engine)
    recorded = results.for_study(study_instance_uid)
    stored = [] if recorded is None else [e for e in recorded.results if e.revision == recorded.revision]
    if recorded is None or not stored or recorded.completed_at is None:
        raise NodeError(f"study {study_instance_uid}: no stored results to replay; see `dicom-node status`")
    if recorded.state not in {StudyState.REPORTED, StudyState.SKIPPED}:
        raise NodeError(
            f"study {study_instance_uid} is {recorded.state}: it was neither reported nor skipped"
        )
    data_dir = DataDir(settings)
    report = dcmread(data_dir.results.path(next(e.file for e in stored if e.kind == "sr")))
    study = StudyRevision(
        study_instance_uid,
        recorded.revision,
        datetime.fromtimestamp(recorded.completed_at, UTC),
        predecessors(results.before_revision(recorded.id, recorded.revision), data_dir.results),
        prior_study(PriorPairs(index.engine).get(recorded.id, recorded.revision), data_dir.spool),
    )
    with StudyReader.open(_as_recorded(settings, report, stored)) as reader:
        analysis = reader.read(study, [data_dir.spool.path(name) for name in recorded.films])
    return list(_compare(data_dir, stored, analysis.objects))


def _as_recorded(settings: Settings, report: Dataset, stored: list[RecordedResult]) -> Settings:
    """Return settings that ask for the stored kinds of result, with the recorded bundle."""
    classes = {uid: name for name, uid in document.SOP_CLASSES.items()}
    kinds = tuple(dict.fromkeys(entry.kind for entry in stored))
    results = settings.results.model_copy(
        update={"objects": kinds, "sr_class": classes[str(report.SOPClassUID)]}
    )
    texts = _algorithm_texts(report)
    recorded = {"bundle": _bundle(settings, texts)}
    if _weights(texts):  # otherwise no model was run
        recorded["runtime"] = ONNX if ONNX_PARAMETER in texts else TORCH
    worker = settings.worker.model_copy(update=recorded)
    return settings.model_copy(update={"results": results, "worker": worker})


def _algorithm_texts(report: Dataset) -> list[str]:
    """Return name, version and parameters of the algorithms that a report names."""
    return [
        str(item.get("TextValue"))
        for item in content_rules.descendants(report)
        if content_rules.name_of(item)
        in {codes.ALGORITHM_NAME.value, codes.ALGORITHM_VERSION.value, codes.ALGORITHM_PARAMETERS.value}
    ]


def _weights(texts: list[str]) -> str:
    """Return the hash of the recorded weights; empty when no model was run."""
    return next((text.partition("=")[2] for text in texts if text.startswith("weights_sha256=")), "")


def _bundle(settings: Settings, texts: list[str]) -> str:
    """Return the recorded bundle: the configured one, or the shipped one of its name and version."""
    weights = _weights(texts)
    if not weights:  # no model was run
        return settings.worker.bundle
    name, version = texts[:2]
    for candidate in (settings.worker.bundle, f"{name}-{version}"):
        with contextlib.suppress(ModelError):
            if read_bundle(find_bundle(candidate)).weights_sha256 == weights:
                return candidate
    raise NodeError(
        f"the bundle {name} {version} with weights {weights[:12]} is not installed: set worker.bundle"
    )


def _compare(
    data_dir: DataDir, stored: list[RecordedResult], now: tuple[tuple[str, Dataset], ...]
) -> Iterator[ReplayedResult]:
    unmatched = list(now)
    for entry in stored:
        match = next((item for item in unmatched if item[0] == entry.kind), None)
        if match is None:
            yield ReplayedResult(entry.kind, entry.sop_instance_uid, "it is no longer written")
            continue
        unmatched.remove(match)
        then = data_dir.results.path(entry.file).read_bytes()
        same = encoded(match[1]) == then
        difference = "" if same else _difference(dcmread(io.BytesIO(then)), match[1])
        yield ReplayedResult(entry.kind, entry.sop_instance_uid, difference)
    for kind, ds in unmatched:
        yield ReplayedResult(kind, str(ds.SOPInstanceUID), "it was not written before")


def _difference(then: Dataset, now: Dataset) -> str:
    """Name the first element in which two objects differ; their SOP Instance UIDs derive from the content."""
    path = _first_difference(then, now)
    return f"it differs in {path}" if path else "it differs in its encoding"


def _first_difference(then: Dataset, now: Dataset) -> str:
    for tag in sorted({*then.keys(), *now.keys()}):
        if tag == _SOP_INSTANCE_UID or (tag in then and tag in now and then[tag] == now[tag]):
            continue
        keyword = (then if tag in then else now)[tag].keyword
        if tag in then and tag in now and then[tag].VR == "SQ":
            for number, pair in enumerate(zip(then[tag].value, now[tag].value, strict=False), 1):
                if inner := _first_difference(*pair):
                    return f"{keyword}[{number}].{inner}"
        return str(keyword)
    return ""
