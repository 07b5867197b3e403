"""Reads the films of one study: files in, a report and its DICOM objects out. No queue, no index.

``analyze`` and the node's pipeline both call this, so the same files get the same scores in both.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset

from dicom_node.config.installation import this_installation
from dicom_node.config.settings import Settings
from dicom_node.errors import StorageFailed
from dicom_node.imaging import clinical_text
from dicom_node.imaging.decoder import Decoder
from dicom_node.imaging.pixels import FloatArray
from dicom_node.imaging.selection import Verdict
from dicom_node.results.report import Presence, Prior, Refusal, Report, SimilarCases, Source
from dicom_node.results.result_set import write_results
from dicom_node.results.sr.document import Predecessor
from dicom_node.store.analysis_records import KeptReading
from dicom_node.store.states import StudyState
from dicom_node.store.study_embeddings import KeptPlace
from models.bundles.bundle import Bundle
from models.bundles.predictor import Predictor
from models.bundles.predictor import Reading as ModelReading
from models.errors import ModelError, RetrievalError
from models.explain import heatmaps
from models.explain.heatmap import Heatmap
from models.explain.targets import best_film, reported
from models.gate.model import Gate
from models.processing.map_check import region_of
from models.processing.types import FindingScore, Prediction, Study
from models.retrieval.embedding import places
from models.retrieval.search import Searcher, opinion
from worker.instance_screening import Candidate, fit_films, is_frontal, read_candidates, why_not
from worker.model_loading import load_gate, load_predictor, load_searcher, runs_on
from worker.report_builder import algorithm, make_report, similar_cases
from worker.supplementary_explanations import NOTHING, Elaboration, check_methods, elaborate

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What reading a study led to.

    Attributes
    ----------
    state
        REPORTED, SKIPPED or FAILED.
    reason
        One sentence; empty when reported.
    report
        None when not even a header could be read.
    objects
        (kind, data set) of each result, checked and ready to be written.
    place
        Where the study lies; None unless the node's own studies may be searched.
    elaboration
        For the page alone.
    """

    state: StudyState
    reason: str
    report: Report | None
    objects: tuple[tuple[str, Dataset], ...]
    place: KeptPlace | None = None
    elaboration: Elaboration = NOTHING


@dataclass(frozen=True, slots=True)
class StudyRevision:
    """Which study is read, and when.

    Attributes
    ----------
    revision
        From 1.
    created
        The time that the results carry; aware.
    predecessors
        Reports of earlier revisions that are still in force, by kind.
    prior
        What it is compared with; None when no prior was looked for.
    """

    study_instance_uid: str
    revision: int
    created: datetime
    predecessors: Mapping[str, Predecessor] = field(default_factory=dict)
    prior: PriorStudy | None = None


@dataclass(frozen=True, slots=True)
class PriorStudy:
    """The films of an earlier study.

    Attributes
    ----------
    paths
        Files of its instances; none when there is no prior.
    reason
        Why there is none, as one clause.
    kept
        What was kept of its own reading, which may be another bundle's; None when it was never read.
    """

    paths: tuple[Path, ...] = ()
    reason: str = ""
    kept: KeptReading | None = None


class StudyReader:
    """A bundle and a decoder, ready for films.

    Parameters
    ----------
    settings
        Of the node.
    predictor
        Of the configured bundle.
    gate
        That the films pass first; None lets every film through.
    searcher
        Of the reference cases; None where similar ones are not looked for.
    """

    def __init__(
        self,
        settings: Settings,
        predictor: Predictor,
        gate: Gate | None = None,
        searcher: Searcher | None = None,
    ) -> None:
        self._results = settings.results
        self._predictor = predictor
        self._gate = gate
        self._searcher = searcher
        self._neighbours = settings.retrieval.k
        self._placing = settings.retrieval.own_studies
        self._decoder = Decoder(
            max_pixels=settings.worker.max_pixels,
            decode_seconds=settings.worker.decode_seconds,
            decode_bytes=settings.worker.decode_bytes,
        )
        self._equipment = this_installation(settings)

    @classmethod
    def open(cls, settings: Settings) -> StudyReader:
        """Return a reader with the configured bundle, gate and index.

        Raises
        ------
        ConfigurationError
            When the bundle, the gate or the device is not there, the index is not the bundle's, or the bundle
            cannot be explained as the page wants it.
        """
        predictor = load_predictor(settings.worker)
        check_methods(predictor, settings.results)
        return cls(settings, predictor, load_gate(settings.worker), load_searcher(settings, predictor))

    @property
    def bundle(self) -> Bundle:
        """That reads the films."""
        return self._predictor.bundle

    @property
    def runs_on(self) -> dict[str, str]:
        """What the films are read on."""
        return runs_on(self._predictor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoder process, and leave the database of the index where it is in one."""
        self._decoder.close()
        if self._searcher is not None:
            self._searcher.close()

    def warm_up(self) -> None:
        """Start the decoder process, so that the first film need not wait for it."""
        self._decoder.warm()

    def read(self, study: StudyRevision, paths: Sequence[Path]) -> Reading:
        """Read the instances of one study.

        Parameters
        ----------
        study
            Which, and the time that its results carry.
        paths
            Files of all its instances, at least one.

        Raises
        ------
        StorageFailed
            When a file cannot be opened.
        models.errors.ModelError
            When the model gives no usable answer.
        EncodingFailed
            When a result cannot be written.
        """
        candidates = read_candidates(paths)
        if not candidates:
            return Reading(StudyState.SKIPPED, "no instance of the study can be read as DICOM", None, ())
        films = fit_films(candidates, self._decoder, self._gate)
        sources = tuple(candidate.source for candidate in candidates)
        if not films:
            return self._refusal(study, sources, why_not(candidates))
        text = self._text([source for source in sources if source.analysed])
        if self._predictor.text == "required" and text is None:
            name = self._predictor.identity.name
            refusal = Refusal("no_text", f"the model {name} needs an indication, and no header holds one")
            return self._refusal(study, sources, refusal)
        read = self._predictor.read([Study(tuple(films), text)])[0]
        maps, withheld = self._draw(read, {candidate.uid: candidate.view for candidate in candidates})
        prior, earlier = self._look_back(study.prior)
        report = make_report(
            study_instance_uid=study.study_instance_uid,
            revision=study.revision,
            created=study.created,
            sources=sources,
            prediction=read.prediction,
            labels=self._predictor.labels,
            heatmaps=maps,
            withheld=withheld,
            gate="" if self._gate is None else self._gate.identity,
            text=self._text_word(text),
            similar=self._similar(read.prediction),
            prior=prior,
            earlier=earlier,
        )
        pixels = {film.identifier: film.pixels for film in films}
        objects = self._encode(study, report, pixels)
        elaboration = elaborate(self._predictor, read, maps, self._results)
        return Reading(StudyState.REPORTED, "", report, objects, self._place(read.prediction), elaboration)

    def _place(self, prediction: Prediction) -> KeptPlace | None:
        if not self._placing:
            return None
        return KeptPlace(prediction.identity.weights_sha256, places([prediction])[0])

    def _text(self, sources: Sequence[Source]) -> str | None:
        """Text of the headers for a model that reads some."""
        if self._predictor.text == "none":
            return None
        return clinical_text.indication([source.header for source in sources])

    def _text_word(self, text: str | None) -> str:
        """What the algorithm's parameters say that the model was given."""
        return "" if self._predictor.text == "none" else "none" if text is None else "indication"

    def _look_back(self, study: PriorStudy | None) -> tuple[Prior | None, dict[str, FindingScore]]:
        """Return the prior and what the bundle says of it, or why there is none: never an error."""
        if study is None:
            return None, {}
        if study.reason:
            return Prior(reason=study.reason), {}
        try:
            return self._read_prior(study)
        except (ModelError, StorageFailed) as error:
            _LOG.warning("no comparison with the prior: %s", error)
            return Prior(reason=_PRIOR_FAILED), {}

    def _read_prior(self, study: PriorStudy) -> tuple[Prior, dict[str, FindingScore]]:
        candidates = read_candidates([path for path in study.paths if path.exists()])
        known = self._said_before(study.kept, candidates)
        films = [] if known else fit_films(candidates, self._decoder, self._gate)
        sources = tuple(source for each in candidates if (source := each.source).analysed)
        if not any(is_frontal(source) for source in sources):
            return Prior(reason=_PRIOR_UNREADABLE), {}
        if not known:
            text = self._text(sources)
            if self._predictor.text == "required" and text is None:
                return Prior(reason=_PRIOR_UNREADABLE), {}
            read = self._predictor.read([Study(tuple(films), text)])[0]
            known = {entry.key: entry for entry in read.prediction.findings}
        return Prior(sources), known

    def _said_before(
        self, kept: KeptReading | None, candidates: Sequence[Candidate]
    ) -> dict[str, FindingScore]:
        """Return the kept answers to the same films, if this very bundle gave them; films get their views."""
        images = {} if kept is None else {image.sop_instance_uid: image for image in kept.images}
        if kept is None or set(images) != {candidate.uid for candidate in candidates}:
            return {}
        read = [each.source for each in candidates if not images[each.uid].reason]
        gate = "" if self._gate is None else self._gate.identity
        ours = algorithm(self._predictor.identity, gate, self._text_word(self._text(read)))
        if (kept.model, kept.model_version, kept.parameters) != (ours.name, ours.version, ours.parameters):
            return {}
        for each in candidates:
            image = images[each.uid]
            each.verdict = Verdict(image.reason, image.exclusion)
            each.view = "" if self._gate is None or image.reason else image.view
        return {
            entry.key: FindingScore(
                key=entry.key,
                score=entry.score,
                probability=entry.certainty,
                threshold=entry.threshold,
                present=entry.presence == Presence.PRESENT.value,
                film_scores=(),
            )
            for entry in kept.findings
        }

    def _similar(self, prediction: Prediction) -> SimilarCases | None:
        """Find the reference cases that the study is like; a report without them is better than none."""
        if self._searcher is None:
            return None
        try:
            (found,) = self._searcher.nearest(places([prediction]), self._neighbours)
        except RetrievalError as error:
            _LOG.error("no similar cases: %s", error)
            return None
        said = opinion(prediction, found)
        return similar_cases(said, self._searcher.index, prediction.identity, self._predictor.labels)

    def _draw(
        self, read: ModelReading, views: Mapping[str, str]
    ) -> tuple[tuple[Heatmap, ...], dict[str, str]]:
        """Heat maps of the reported findings, and why some of them are withheld."""
        keys = reported(read.prediction, self._results.heat_maps)
        by_film: dict[int, list[str]] = {}
        for key in keys:
            by_film.setdefault(best_film(read.prediction, key), []).append(key)
        maps: dict[str, Heatmap] = {}
        withheld: dict[str, str] = {}
        check = self._predictor.bundle.map_check
        for position, shown in by_film.items():
            film = read.study.films[position]
            view = views[film.identifier]
            region = region_of(film.pixels, view)
            for heatmap in heatmaps(self._predictor, read, shown, films=[position]):
                reason = check.objection(heatmap.looked_at, region, view)
                if reason:
                    withheld[heatmap.key] = reason
                else:
                    maps[heatmap.key] = heatmap
        return tuple(maps[key] for key in keys if key in maps), withheld

    def refuse(self, study: StudyRevision, paths: Sequence[Path], refusal: Refusal) -> Reading:
        """Say why a study was given up, without looking at its pixels."""
        sources = tuple(candidate.source for candidate in read_candidates(paths))
        if not sources:
            return Reading(StudyState.FAILED, refusal.text, None, ())
        reading = self._refusal(study, sources, refusal)
        return replace(reading, state=StudyState.FAILED)

    def _refusal(self, study: StudyRevision, sources: tuple[Source, ...], refusal: Refusal) -> Reading:
        report = Report(
            study_instance_uid=study.study_instance_uid,
            revision=study.revision,
            created=study.created,
            sources=tuple(
                replace(source, analysed=False, exclusion=source.exclusion or refusal.text)
                for source in sources
            ),
            algorithm=None,
            refusal=refusal,
        )
        return Reading(StudyState.SKIPPED, refusal.text, report, self._encode(study, report, {}))

    def _encode(
        self, study: StudyRevision, report: Report, pixels: Mapping[str, FloatArray]
    ) -> tuple[tuple[str, Dataset], ...]:
        written = write_results(
            report,
            pixels,
            equipment=self._equipment,
            objects=self._results.objects,
            sr_class=self._results.sr_class,
            columns=self._results.saliency_columns,
            predecessors=study.predecessors,
        )
        return tuple(written)


_PRIOR_FAILED = "the model gave no usable answer to it"
_PRIOR_UNREADABLE = "no frontal film of it can be analysed"
