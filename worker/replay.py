"""Replay of a study: its results are made again from the stored films and compared byte for byte."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.config.data_dir import DataDir
from dicom_node.config.served_models import ModelRole, ServedModel
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.imaging import attributes
from dicom_node.results import codes, content_rules
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.sr import document
from dicom_node.store.analysis_records import AnalysisRecords
from dicom_node.store.files import damage, data_set_offset
from dicom_node.store.index import Index
from dicom_node.store.prior_pairs import PriorPairs
from dicom_node.store.purge_trace import sentence
from dicom_node.store.recorded_results import RecordedResult, RecordedResults
from dicom_node.store.states import StudyState
from models.bundles.bundle import find_bundle, read_bundle
from models.bundles.runtime import ONNX, TORCH
from models.errors import ModelError
from worker.model_reader import ModelAnalysis
from worker.pipeline import predecessors, prior_study
from worker.report_builder import ONNX_PARAMETER, STAND_IN_PARAMETER
from worker.study_reader import StudyReader
from worker.study_revision import StudyRevision

_LOG = logging.getLogger(__name__)
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


def replay(
    settings: Settings, index: Index, study_instance_uid: str, *, mend: bool = False
) -> list[ReplayedResult]:
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
    mend
        Whether to write a stored file again that is damaged or missing, where its content is made alike.

    Raises
    ------
    NodeError
        If the study has no results to compare with, a film or a result was purged, or the recorded bundle is
        not installed.
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
    pairing = PriorPairs(index.engine).get(recorded.id, recorded.revision)
    prior_films = () if pairing is None else pairing.purged_films
    for noun, traces in (
        ("film", recorded.purged_films),
        ("result", [trace for each in stored if (trace := each.purged) is not None]),
        ("film of its prior", prior_films),
    ):
        if traces:
            raise NodeError(
                f"study {study_instance_uid} cannot be replayed: {sentence(noun, traces)}; a film that "
                "is sent again is stored again"
            )
    data_dir = DataDir(settings)
    reports = [entry for entry in stored if entry.kind == "sr"]
    kept = {
        record.model: [record.model, record.model_version, *record.parameters]
        for record in AnalysisRecords(index.engine).all_latest_of(study_instance_uid)
    }
    # A report whose file is damaged is to be written again: the record says what made it.
    texts = [_algorithm(data_dir, each) or kept.get(each.model, []) for each in reports]
    study = StudyRevision(
        study_instance_uid,
        recorded.revision,
        datetime.fromtimestamp(recorded.completed_at, UTC),
        predecessors(results.before_revision(recorded.id, recorded.revision), data_dir.results),
        prior_study(pairing, data_dir.spool),
        # The index may have been made anew, of reports.
        gate_overridden=recorded.gate_overridden or any(codes.GATE_OVERRIDDEN in each for each in texts),
    )
    with StudyReader.open(_as_recorded(settings, reports[0].sop_class_uid, texts, stored)) as reader:
        if any(STAND_IN_PARAMETER in each for each in texts):
            reader.stand_in_by_processor()
        analysis = reader.read(study, [data_dir.spool.path(name) for name in recorded.films])
    return list(_compare(data_dir, stored, analysis.analyses, mend=mend))


def _as_recorded(
    settings: Settings, sr_class_uid: str, texts: Sequence[list[str]], stored: list[RecordedResult]
) -> Settings:
    """Return settings that ask for the stored kinds of result, with the recorded bundles."""
    classes = {uid: name for name, uid in document.SOP_CLASSES.items()}
    kinds = tuple(dict.fromkeys(entry.kind for entry in stored))
    results = settings.results.model_copy(update={"objects": kinds, "sr_class": classes[sr_class_uid]})
    read = [each for each in texts if _weights(each)]  # of the others no model was run
    served = tuple(_served(settings, each) for each in read)
    recorded = {}
    if read:
        recorded["runtime"] = ONNX if any(ONNX_PARAMETER in each for each in read) else TORCH
    worker = settings.worker.model_copy(update=recorded)
    return settings.model_copy(
        update={"results": results, "worker": worker, "models": served or settings.models}
    )


def _algorithm(data_dir: DataDir, report: RecordedResult) -> list[str] | None:
    """Return name, version and parameters of the algorithm that a report names; None when it is damaged."""
    path = data_dir.results.path(report.file)
    if damage(path, report.digest):
        return None
    return [
        str(item.get("TextValue"))
        for item in content_rules.descendants(dcmread(path))
        if content_rules.name_of(item)
        in {codes.ALGORITHM_NAME.value, codes.ALGORITHM_VERSION.value, codes.ALGORITHM_PARAMETERS.value}
    ]


def _weights(texts: Sequence[str]) -> str:
    """Return the hash of the recorded weights; empty when no model was run."""
    return next((text.partition("=")[2] for text in texts if text.startswith("weights_sha256=")), "")


def _served(settings: Settings, texts: Sequence[str]) -> ServedModel:
    """Return the recorded model as a primary one: a configured bundle, or the shipped one of its name."""
    weights = _weights(texts)
    name, version = texts[:2]
    shipped = ServedModel(name=f"{name}-{version}", bundle=f"{name}-{version}")
    for candidate in (*settings.served_models, shipped):
        with contextlib.suppress(ModelError):
            if (
                candidate.bundle is not None
                and read_bundle(find_bundle(candidate.bundle)).weights_sha256 == weights
            ):
                return candidate.model_copy(update={"role": ModelRole.PRIMARY})
    raise NodeError(
        f"the bundle {name} {version} with weights {weights[:12]} is not installed: set worker.bundle"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content[data_set_offset(content) :]).hexdigest()


def _compare(
    data_dir: DataDir, stored: list[RecordedResult], now: Sequence[ModelAnalysis], *, mend: bool
) -> Iterator[ReplayedResult]:
    unmatched = [(kind, ds, analysis.model) for analysis in now for kind, ds in analysis.objects]
    for entry in stored:
        match = next(
            (
                each
                for each in unmatched
                # Earlier versions, which had one model, recorded none.
                if each[0] == entry.kind and entry.model in {"", each[2]}
            ),
            None,
        )
        if match is None:
            yield ReplayedResult(entry.kind, entry.sop_instance_uid, "it is no longer written")
            continue
        unmatched.remove(match)
        written = encoded(match[1])
        path = data_dir.results.path(entry.file)
        wrong = damage(path, entry.digest)
        if wrong and mend and _digest(written) == entry.digest:
            data_dir.results.keep(written)
            _LOG.warning("%s was damaged (%s) and is written again", entry.file, wrong)
            wrong = ""
        difference = f"the stored file: {wrong}" if wrong else ""
        if path.is_file() and (then := path.read_bytes()) != written:
            with contextlib.suppress(InvalidDicomError, *attributes.MALFORMED):
                difference = _difference(dcmread(io.BytesIO(then)), match[1])
        yield ReplayedResult(entry.kind, entry.sop_instance_uid, difference)
    for kind, ds, _ in unmatched:
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
