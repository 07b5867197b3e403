"""Loaded bundle, by which a notebook or a command reads films as the node does, without a server."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.analysis.packages import packages_of
from dicom_node.analysis.studies import StudyCollection, StudyFilms
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import BadInstance, ConfigurationError, EncodingFailed, NodeError
from models.bundles.lookup import shipped_bundles
from models.bundles.predictor import Predictor
from worker.loaded_models import LoadedModels
from worker.model_loading import load_gate, load_predictor
from worker.study_reader import StudyAnalysis, StudyReader
from worker.study_revision import StudyRevision

if TYPE_CHECKING:
    import pandas as pd
    from pydicom.dataset import Dataset

    from dicom_node.analysis.studies import Films
    from models.gate.model import Gate


class LoadedBundle:
    """Bundle that is loaded with its gate; made by :func:`load_bundle`.

    Attributes
    ----------
    name, version
        Name and version.
    weights_sha256
        SHA-256 of the weights, in hexadecimal digits.
    path
        Folder.
    labels
        Names of the labels by their keys, in the order of the model.
    settings
        Settings by which films are read.
    predictor
        Network with its preprocessing and calibration.
    gate
        Gate that films pass first; None when it is turned off.
    """

    def __init__(self, settings: Settings, predictor: Predictor, gate: Gate | None) -> None:
        self.settings = settings
        self.predictor = predictor
        self.gate = gate
        self.name: str = predictor.identity.name
        self.version: str = predictor.identity.version
        self.weights_sha256: str = predictor.identity.weights_sha256
        self.path: Path = predictor.bundle.path
        self.labels: dict[str, str] = {label.key: label.name for label in predictor.labels}

    def __repr__(self) -> str:
        return (
            f"<LoadedBundle {self.name} {self.version}, {len(self.labels)} labels, {self.predictor.runtime}>"
        )

    @contextmanager
    def reader(self, objects: Collection[str] = ("sr",)) -> Iterator[StudyReader]:
        """Open a reader of studies, which writes results of some kinds.

        Parameters
        ----------
        objects
            Kinds of objects (docs/results.md); ``sr`` is always written.

        Raises
        ------
        ConfigurationError
            If there is no such kind.
        """
        results = {**self.settings.results.model_dump(), "objects": ("sr", *objects), "page_methods": ()}
        try:
            section = type(self.settings.results)(**results)
        except ValueError:
            known = "sr, sc, seg, pr, ko, pdf, similar and pm"
            raise ConfigurationError(f"objects {', '.join(objects)}: the kinds are {known}") from None
        settings = self.settings.model_copy(update={"results": section})
        gate = "" if self.gate is None else self.gate.identity
        models = LoadedModels.holding(settings, self.predictor, gate=gate)
        with StudyReader(settings, models, self.gate) as reader:
            yield reader


@packages_of("worker")
def load_bundle(
    name: str | Path | None = None,
    *,
    device: str | None = None,
    runtime: str | None = None,
    gate: str | None = None,
    config: str | Path | None = None,
) -> LoadedBundle:
    """Find, verify and load a bundle.

    Parameters
    ----------
    name
        Name of a shipped bundle, such as ``openi-findings``, or a folder; ``worker.bundle`` of the settings
        if absent.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``worker.device`` if absent.
    runtime
        ``auto``, ``torch`` or ``onnx``; ``worker.runtime`` if absent. Heat maps by gradients need ``torch``.
    gate
        Name or folder of the gate, which refuses what is no upright chest film with dark lungs; empty to
        read every film; ``worker.gate`` if absent.
    config
        TOML file of the settings; those of the environment, or the defaults, if absent.

    Returns
    -------
    LoadedBundle

    Raises
    ------
    ConfigurationError
        If the bundle, the gate, the device or a setting is missing or wrong, or the bundle is damaged.
    """
    settings = chosen_settings(
        load_settings(None if config is None else Path(config)),
        bundle=None if name is None else str(name),
        device=device,
        runtime=runtime,
        gate=gate,
    )
    served = settings.primary_models[0]
    predictor = load_predictor(settings, served)
    if not isinstance(predictor, Predictor):
        raise ConfigurationError(f"models: {served.name} is a remote model; name a bundle to load")
    return LoadedBundle(settings, predictor, load_gate(settings.worker))


def chosen_settings(settings: Settings, **chosen: str | None) -> Settings:
    """Return settings with one model that reads every study, and other choices of the section ``worker``.

    Parameters
    ----------
    chosen
        Values by setting, such as ``bundle`` and ``device``; None keeps that of the settings. The model is
        the bundle that is chosen, or else the first primary one.

    Raises
    ------
    ConfigurationError
        If a setting has no such value.
    """
    given = {key: value for key, value in chosen.items() if value is not None}
    try:
        worker = type(settings.worker)(**{**settings.worker.model_dump(), **given})
    except ValidationError as error:
        (name,), sentence = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise ConfigurationError(f"{name} {given[str(name)]}: {sentence}") from None
    return settings.model_copy(update={"worker": worker}).with_one_model(given.get("bundle"))


def list_bundles() -> list[str]:
    """Return the names with versions of the bundles that come with the package."""
    return [folder.name for folder in shipped_bundles()]


def read_studies(
    reader: StudyReader, studies: Iterable[StudyFilms], unreadable: dict[str, str]
) -> Iterator[tuple[StudyFilms, StudyAnalysis]]:
    """Read studies one after the other, and yield each with its analysis.

    Parameters
    ----------
    reader
        Reader of studies.
    studies
        Studies to read.
    unreadable
        Gets the reason for each study that cannot be read, or whose results cannot be written; the others
        are read.

    Raises
    ------
    NodeError
        If the model gives no usable answer, or a file cannot be opened.
    """
    created = datetime.now(UTC)
    for study in studies:
        try:
            with translated_model_errors(), study.files() as paths:
                analysis = reader.read(StudyRevision(study.study_instance_uid, 1, created), paths)
        except BadInstance as error:
            unreadable[study.names[0]] = str(error)
        except EncodingFailed as error:
            unreadable[f"study {study.study_instance_uid}"] = str(error)
        else:
            yield study, analysis


@packages_of("tables")
def score(bundle: LoadedBundle, films: Films) -> pd.DataFrame:
    """Score studies; the same films get the same scores from ``dicom-node analyze`` and from the node.

    Parameters
    ----------
    bundle
        Bundle that reads.
    films
        Files and folders, arrays in [0, 1] with dark lungs, or arrays by name. The DICOM films of one study
        are read together; an image file or an array is a study of its own.

    Returns
    -------
    pandas.DataFrame
        A row for each label of each study, with the columns of docs/results.md; one row with state and reason
        for a study that was not read, or a file that is no film; ``attrs["unreadable"]`` holds the reason for
        each of these files too.

    Raises
    ------
    ConfigurationError
        If there is no such file or folder, or pandas is not installed (extra ``tables``).
    NodeError
        If an array is no film, or a study cannot be read.
    """
    import pandas as pd

    from dicom_node.analysis.score_table import COLUMNS, score_rows, unreadable_rows

    studies = StudyCollection.of(films)
    rows: list[dict[str, Any]] = []
    with bundle.reader() as reader:
        for study, analysis in read_studies(reader, studies.studies.values(), studies.unreadable):
            rows += score_rows(study, analysis)
    rows += unreadable_rows(studies.unreadable)
    kinds = {"text": "string", "whole": "Int64", "number": "float64", "truth": "boolean"}
    table = pd.DataFrame(
        {
            column.name: pd.array([row.get(column.name) for row in rows], dtype=kinds[column.kind])
            for column in COLUMNS
        }
    )
    table.attrs["unreadable"] = studies.unreadable
    return table


def build_results(bundle: LoadedBundle, films: Films, objects: Collection[str] = ("sr",)) -> list[Dataset]:
    """Build the DICOM results of studies, as the node sends them.

    Parameters
    ----------
    bundle
        Bundle that reads.
    films
        As in :func:`score`.
    objects
        Kinds of objects (docs/results.md), such as ``sr``, ``sc`` and ``seg``.

    Returns
    -------
    list of pydicom.dataset.Dataset
        Results, study by study; a study that was not read has a report that says why.

    Raises
    ------
    ConfigurationError
        If there is no such file, folder or kind.
    NodeError
        If a film or a study cannot be read.
    """
    studies = StudyCollection.of(films)
    with bundle.reader(objects) as reader:
        analyses = list(read_studies(reader, studies.studies.values(), studies.unreadable))
    if studies.unreadable:
        raise NodeError("; ".join(studies.unreadable.values()))
    return [ds for _, analysis in analyses for _, ds in analysis.objects]


def build_report(bundle: LoadedBundle, films: Films) -> Dataset:
    """Build the Structured Report (TID 1500) of one study.

    Parameters
    ----------
    bundle
        Bundle that reads.
    films
        Films of one study, as in :func:`score`.

    Returns
    -------
    pydicom.dataset.Dataset
        Report with every finding, or with the reason why the study was not read.

    Raises
    ------
    NodeError
        If the films are not of one study, or one cannot be read.
    """
    found = build_results(bundle, films)
    if len(found) != 1:
        raise NodeError(f"the films are of {len(found)} studies; build_results makes the reports of several")
    return found[0]
