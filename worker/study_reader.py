"""Study reader: analyses the films of one study and returns a report and its DICOM objects.

It uses neither queue nor database. ``analyze`` and the node's pipeline both call it, so the same files get
the same scores in both.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydicom.dataset import Dataset

from dicom_node.config.installation import this_installation
from dicom_node.config.settings import Settings
from dicom_node.errors import StorageFailed
from dicom_node.imaging import clinical_text
from dicom_node.imaging.decoder import Decoder
from dicom_node.imaging.pixels import FloatArray
from dicom_node.imaging.selection import Eligibility
from dicom_node.results.report import Presence, PriorComparison, Refusal, Report, SimilarCases, Source
from dicom_node.results.result_set import write_results
from dicom_node.results.sr.document import Predecessor
from dicom_node.store.states import StudyState
from models.bundles.bundle import Bundle
from models.bundles.predictor import Predictor
from models.bundles.predictor import TracedPrediction as ModelReading
from models.errors import ModelError, RetrievalError
from models.explain.heatmap import Heatmap
from models.explain.methods import draw_heatmaps
from models.explain.targets import best_film, reported_findings
from models.gate.model import Gate
from models.processing.map_check import region_of
from models.processing.types import FindingScore, Prediction, Study
from models.retrieval.embedding import embed_studies
from models.retrieval.search import Searcher, neighbour_agreement
from worker.film_correction import on_stored_films
from worker.instance_screening import (
    ScreenedInstance,
    common_refusal,
    is_frontal,
    screen_films,
    screen_headers,
)
from worker.model_loading import load_gate, load_predictor, load_searcher
from worker.report_builder import (
    ONNX_PARAMETER,
    STAND_IN_PARAMETER,
    build_report,
    build_similar_cases,
    identify_algorithm,
)
from worker.supplementary_explanations import (
    NO_EXPLANATIONS,
    SupplementaryExplanations,
    check_page_methods,
    make_supplementary_explanations,
)

if TYPE_CHECKING:
    from dicom_node.store.analysis_records import AnalysisRecord
    from dicom_node.store.study_embeddings import StudyEmbedding

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class StudyAnalysis:
    """Outcome of the analysis of one study.

    Attributes
    ----------
    state
        REPORTED, SKIPPED or FAILED.
    reason
        Reason for SKIPPED or FAILED, as one sentence; empty when reported.
    report
        Report of the study; None when no header could be read.
    objects
        Kind and data set of each result, checked and ready to be written.
    place
        Embedding of the study; None unless the node's own studies may be searched.
    supplement
        Explanations for the reading room that are in no report.
    """

    state: StudyState
    reason: str
    report: Report | None
    objects: tuple[tuple[str, Dataset], ...]
    place: StudyEmbedding | None = None
    supplement: SupplementaryExplanations = NO_EXPLANATIONS


@dataclass(frozen=True, slots=True)
class StudyRevision:
    """One revision of a study: the set of its instances at one time.

    Attributes
    ----------
    study_instance_uid
        Study Instance UID.
    revision
        Number of the revision, from 1.
    created
        Time that the results carry; timezone-aware.
    predecessors
        Reports of earlier revisions that are still in force, by kind.
    prior
        Prior study to compare with; None when no prior was looked for.
    """

    study_instance_uid: str
    revision: int
    created: datetime
    predecessors: Mapping[str, Predecessor] = field(default_factory=dict)
    prior: PriorStudy | None = None


@dataclass(frozen=True, slots=True)
class PriorStudy:
    """Prior study: an earlier study of the same patient, or the reason why there is none.

    Attributes
    ----------
    paths
        Files of its instances; empty when there is no prior.
    reason
        Reason why there is no prior, as one clause.
    kept
        Record of its own analysis, perhaps by another bundle; None when it was never analysed.
    """

    paths: tuple[Path, ...] = ()
    reason: str = ""
    kept: AnalysisRecord | None = None


class StudyReader:
    """Reader of studies, with the models loaded and a decoder process.

    Parameters
    ----------
    settings
        Settings of the node.
    predictor
        Loaded model bundle.
    gate
        Gate that the films pass first; None lets every film through.
    searcher
        Searcher of the reference cases; None when similar cases are not looked for.
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
        self._keeps_embedding = settings.retrieval.own_studies
        self._decoder = Decoder(
            max_pixels=settings.worker.max_pixels,
            decode_seconds=settings.worker.decode_seconds,
            decode_bytes=settings.worker.decode_bytes,
        )
        self._max_films = settings.worker.max_films
        self._equipment = this_installation(settings)

    @classmethod
    def open(cls, settings: Settings) -> StudyReader:
        """Return a reader with the configured bundle, gate and index.

        Raises
        ------
        ConfigurationError
            If the bundle, the gate or the device is missing, the index belongs to another bundle, or the
            bundle does not support the methods of ``results.page_methods``.
        """
        predictor = load_predictor(settings)
        check_page_methods(predictor, settings.results)
        return cls(settings, predictor, load_gate(settings.worker), load_searcher(settings, predictor))

    @property
    def bundle(self) -> Bundle:
        """The loaded model bundle."""
        return self._predictor.bundle

    @property
    def runs_on(self) -> dict[str, str]:
        """Device and version of the inference runtime that the model runs in."""
        return dict(self._predictor.session.describe())

    def stand_in_by_processor(self) -> None:
        """Let the processor read in place of the configured device, as a recorded analysis had it."""
        self._predictor.session.stand_in_by_processor()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoder process, and close the connection to an index in a database."""
        self._decoder.close()
        if self._searcher is not None:
            self._searcher.close()

    def warm_up(self) -> None:
        """Start the decoder process, so that the first film does not wait for it."""
        self._decoder.warm()

    def read(self, study: StudyRevision, paths: Sequence[Path]) -> StudyAnalysis:
        """Analyse the instances of one study.

        Parameters
        ----------
        study
            Revision to analyse.
        paths
            Files of all its instances, at least one.

        Raises
        ------
        StorageFailed
            If a file cannot be opened.
        models.errors.ModelError
            If the model gives no usable answer.
        EncodingFailed
            If a result cannot be encoded.
        """
        instances = screen_headers(paths)
        if not instances:
            return StudyAnalysis(
                StudyState.SKIPPED, "no instance of the study can be read as DICOM", None, ()
            )
        films = screen_films(instances, self._decoder, self._gate, self._max_films)
        sources = tuple(instance.source for instance in instances)
        if not films:
            return self._refusal(study, sources, common_refusal(instances))
        text = self._text([source for source in sources if source.analysed])
        if self._predictor.text == "required" and text is None:
            name = self._predictor.identity.name
            refusal = Refusal("no_text", f"the model {name} needs an indication, and no header holds one")
            return self._refusal(study, sources, refusal)
        read = self._predictor.trace([Study(tuple(each.film for each in films), text)])[0]
        maps, withheld = self._heat_maps(read, {instance.uid: instance.view for instance in instances})
        supplement = make_supplementary_explanations(self._predictor, read, maps, self._results)
        prior, earlier = self._compare_prior(study.prior)
        report = build_report(
            study_instance_uid=study.study_instance_uid,
            revision=study.revision,
            created=study.created,
            sources=sources,
            prediction=read.prediction,
            labels=self._predictor.labels,
            heatmaps=on_stored_films(maps, films),
            withheld=withheld,
            gate="" if self._gate is None else self._gate.identity,
            text=self._text_parameter(text),
            runtime=self._predictor.runtime,
            stand_in=self._predictor.session.stand_in,
            similar=self._similar(read.prediction),
            prior=prior,
            earlier=earlier,
        )
        pixels = {each.film.identifier: each.stored for each in films}
        objects = self._encode(study, report, pixels)
        return StudyAnalysis(
            StudyState.REPORTED,
            "",
            report,
            objects,
            self._embedding(read.prediction),
            replace(supplement, maps=on_stored_films(supplement.maps, films)),
        )

    def _embedding(self, prediction: Prediction) -> StudyEmbedding | None:
        if not self._keeps_embedding:
            return None
        from dicom_node.store.study_embeddings import StudyEmbedding  # noqa: PLC0415 - SQLAlchemy comes with it

        return StudyEmbedding(prediction.identity.weights_sha256, embed_studies([prediction])[0])

    def _text(self, sources: Sequence[Source]) -> str | None:
        """Return the indication from the headers; None for a model that reads no text."""
        if self._predictor.text == "none":
            return None
        return clinical_text.indication([source.header for source in sources])

    def _text_parameter(self, text: str | None) -> str:
        """Return the value of ``text`` among the algorithm's parameters; empty for a model without text."""
        return "" if self._predictor.text == "none" else "none" if text is None else "indication"

    def _compare_prior(
        self, study: PriorStudy | None
    ) -> tuple[PriorComparison | None, dict[str, FindingScore]]:
        """Return the prior and the bundle's answers to it by key, or the reason why there is none."""
        if study is None:
            return None, {}
        if study.reason:
            return PriorComparison(reason=study.reason), {}
        try:
            return self._read_prior(study)
        except (ModelError, StorageFailed) as error:
            _LOG.warning("no comparison with the prior: %s", error)
            return PriorComparison(reason=_PRIOR_FAILED), {}

    def _read_prior(self, study: PriorStudy) -> tuple[PriorComparison, dict[str, FindingScore]]:
        instances = screen_headers([path for path in study.paths if path.exists()])
        known = self._recorded_answers(study.kept, instances)
        films = [] if known else screen_films(instances, self._decoder, self._gate, self._max_films)
        sources = tuple(source for each in instances if (source := each.source).analysed)
        if not any(is_frontal(source) for source in sources):
            return PriorComparison(reason=_PRIOR_UNREADABLE), {}
        if not known:
            text = self._text(sources)
            if self._predictor.text == "required" and text is None:
                return PriorComparison(reason=_PRIOR_UNREADABLE), {}
            read = self._predictor.trace([Study(tuple(each.film for each in films), text)])[0]
            known = {entry.key: entry for entry in read.prediction.findings}
        return PriorComparison(sources), known

    def _recorded_answers(
        self, kept: AnalysisRecord | None, instances: Sequence[ScreenedInstance]
    ) -> dict[str, FindingScore]:
        """Return the recorded answers to the same films if this bundle gave them, else nothing.

        The instances then get the recorded verdicts and views.
        """
        images = {} if kept is None else {image.sop_instance_uid: image for image in kept.images}
        if kept is None or set(images) != {instance.uid for instance in instances}:
            return {}
        read = [each.source for each in instances if not images[each.uid].reason]
        gate = "" if self._gate is None else self._gate.identity
        ours = identify_algorithm(self._predictor.identity, gate, self._text_parameter(self._text(read)))
        # Every runtime and device gives the same answers, so which of them gave these does not matter.
        then = tuple(each for each in kept.parameters if each not in (ONNX_PARAMETER, STAND_IN_PARAMETER))
        if (kept.model, kept.model_version, then) != (ours.name, ours.version, ours.parameters):
            return {}
        for each in instances:
            image = images[each.uid]
            each.verdict = Eligibility(image.reason, image.exclusion)
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
        """Find similar reference cases; a failed search is logged, and the report is written without them."""
        if self._searcher is None:
            return None
        try:
            (found,) = self._searcher.nearest(embed_studies([prediction]), self._neighbours)
        except RetrievalError as error:
            _LOG.error("no similar cases: %s", error)
            return None
        neighbours = neighbour_agreement(prediction, found)
        return build_similar_cases(
            neighbours, self._searcher.index, prediction.identity, self._predictor.labels
        )

    def _heat_maps(
        self, read: ModelReading, views: Mapping[str, str]
    ) -> tuple[tuple[Heatmap, ...], dict[str, str]]:
        """Return the heat maps of the reported findings, and the reason for each withheld one by key."""
        keys = reported_findings(read.prediction, self._results.heat_maps)
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
            for heatmap in draw_heatmaps(self._predictor, read, shown, films=[position]):
                reason = check.objection(heatmap.preview, region, view)
                if reason:
                    withheld[heatmap.key] = reason
                else:
                    maps[heatmap.key] = heatmap
        return tuple(maps[key] for key in keys if key in maps), withheld

    def refuse(self, study: StudyRevision, paths: Sequence[Path], refusal: Refusal) -> StudyAnalysis:
        """Return the analysis of a failed study: a report of the reason, made from the headers alone."""
        sources = tuple(instance.source for instance in screen_headers(paths))
        if not sources:
            return StudyAnalysis(StudyState.FAILED, refusal.text, None, ())
        return replace(self._refusal(study, sources, refusal), state=StudyState.FAILED)

    def _refusal(self, study: StudyRevision, sources: tuple[Source, ...], refusal: Refusal) -> StudyAnalysis:
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
        return StudyAnalysis(StudyState.SKIPPED, refusal.text, report, self._encode(study, report, {}))

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
            compression=self._results.compression,
            overview=self._results.overview,
            predecessors=study.predecessors,
        )
        return tuple(written)


_PRIOR_FAILED = "the model gave no usable answer to it"
_PRIOR_UNREADABLE = "no frontal film of it can be analysed"
