"""Prior study: the earlier study that a report compares with, screened once for every model that reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.imaging.selection import Eligibility
from worker.film_correction import CorrectedFilm
from worker.instance_screening import ScreenedInstance, screen_headers

if TYPE_CHECKING:
    from dicom_node.store.analysis_records import AnalysisRecord


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
        Records of its own analysis, one a model; empty when it was never analysed.
    """

    paths: tuple[Path, ...] = ()
    reason: str = ""
    kept: tuple[AnalysisRecord, ...] = ()


class ScreenedPrior:
    """Prior study whose headers were checked; its films are decoded when a model first asks for them.

    Parameters
    ----------
    study
        Prior study, with files.
    screen
        Function that decodes the films of checked instances, as
        :func:`worker.instance_screening.screen_films` does.
    gated
        Whether a gate sees the films: recorded views are then its own.
    """

    def __init__(
        self,
        study: PriorStudy,
        screen: Callable[[Sequence[ScreenedInstance]], list[CorrectedFilm]],
        *,
        gated: bool,
    ) -> None:
        self.study = study
        self.instances = screen_headers([path for path in study.paths if path.exists()])
        self._screen = screen
        self._gated = gated
        self._films: list[CorrectedFilm] | None = None

    @property
    def films(self) -> list[CorrectedFilm]:
        """Films that a model may read.

        Raises
        ------
        StorageFailed
            If a file cannot be opened.
        """
        if self._films is None:
            self._films = self._screen(self.instances)
        return self._films

    def recall(self, kept: AnalysisRecord) -> None:
        """Give the instances the verdicts and views of a record of the same films, unless decoded."""
        if self._films is not None:
            return
        images = {image.sop_instance_uid: image for image in kept.images}
        for each in self.instances:
            image = images[each.uid]
            each.verdict = Eligibility(image.reason, image.exclusion)
            each.view = image.view if self._gated and not image.reason else ""
