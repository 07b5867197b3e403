"""Report of a study: everything that the result writers turn into DICOM objects.

``worker/report_builder.py`` fills it from a model's prediction; the packages beside it write it as DICOM.
It knows codes, references and equipment, and nothing of models.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes, value_representations
from dicom_node.imaging.grayscale import GreyTransform
from dicom_node.imaging.orientation import AS_STORED, Orientation
from dicom_node.imaging.pixels import integer, is_inverted

FloatArray: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Code:
    """A coded entry (PS3.3 section 8.8): value, coding scheme designator, meaning (at most 64 characters)."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        if not (0 < len(self.value) <= 16 and 0 < len(self.scheme) <= 16 and 0 < len(self.meaning) <= 64):
            raise ValueError(f"not a valid code: ({self.value}, {self.scheme}, {self.meaning!r})")


class Presence(enum.Enum):
    """Presence of a finding (CID 240)."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


THRESHOLD_WORDS: Final[Mapping[Presence, str]] = {
    Presence.PRESENT: "above",
    Presence.ABSENT: "below",
    Presence.UNDETERMINED: "undetermined at",
}
"""Words between a finding and its threshold, for people: what was compared, not what is in the patient."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Algorithm that computed an answer (TID 4019).

    Attributes
    ----------
    name, version
        Name and version of the model bundle.
    parameters
        Parameters such as ``weights_sha256=...``, one text item each.
    """

    name: str
    version: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An image that was received.

    Attributes
    ----------
    header
        The data set without its pixel data, as received: bad values are the normal case.
    analysed
        True when a model read it.
    exclusion
        Reason of the exclusion, as one sentence; empty when analysed.
    reason
        The same as a key into ``codes.REFUSALS``; empty when analysed.
    view
        View that the gate saw, ``frontal`` or ``lateral``; empty without a gate.
    remarks
        What was set aside or changed to read the image, one clause each, such as ``window 1 (center -600,
        width 1600) does not fit the film's values and was set aside``.
    grey
        Transform by which the model saw it; None when its pixels were not read.
    orientation
        Way from the stored picture to the one that the model saw.
    """

    header: Dataset
    analysed: bool = True
    exclusion: str = ""
    view: str = ""
    reason: str = ""
    remarks: tuple[str, ...] = ()
    grey: GreyTransform | None = None
    orientation: Orientation = AS_STORED

    @property
    def sop_instance_uid(self) -> str:
        """UID of the instance; empty when the header has none."""
        return attributes.text(self.header, "SOPInstanceUID")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a film that was read."""
        return integer(self.header, "Rows"), integer(self.header, "Columns")

    @property
    def inverted(self) -> bool:
        """True when the film was read with the grey scale that is the opposite of what its header says."""
        return self.grey is not None and self.grey.inverted is not is_inverted(self.header)


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """Heat map of a finding on one source image.

    Attributes
    ----------
    sop_instance_uid
        SOP Instance UID of the source.
    values
        Float32 in [0, 1], over the whole of the source; as fine as the model draws it, coarser than a film.
    method
        Method of the map, such as ``Grad-CAM``.
    """

    sop_instance_uid: str
    values: FloatArray
    method: str

    def at(self, rows: int, columns: int) -> FloatArray:
        """Return the map at another size, bilinear."""
        if self.values.shape == (rows, columns):
            return self.values
        picture = Image.fromarray(np.ascontiguousarray(self.values, np.float32))
        sized: FloatArray = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))
        return sized.clip(0, 1)


class Change(enum.Enum):
    """Change of a finding since the prior, by the answers of one model to both."""

    NEW = "new"
    GONE = "gone"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class PriorAnswer:
    """Answer of the same model to the prior.

    Attributes
    ----------
    certainty, score
        Certainty and score of that answer, as in :class:`Finding`.
    """

    certainty: float | None
    score: float
    presence: Presence
    change: Change


@dataclass(frozen=True, slots=True, eq=False)
class PriorComparison:
    """Comparison with the patient's previous chest film, or the reason why there is none.

    Attributes
    ----------
    sources
        Its images that the model read.
    reason
        Reason why nothing was compared, as one clause; empty exactly when there are sources.
    """

    sources: tuple[Source, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if bool(self.sources) == bool(self.reason):
            raise ValueError("a prior has either images or a reason why there are none")

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID of the prior; empty when there is none."""
        return attributes.text(self.sources[0].header, "StudyInstanceUID") if self.sources else ""

    @property
    def study_date(self) -> str:
        """Study Date of the prior as eight digits; empty when there is none that is a date."""
        said = attributes.text(self.sources[0].header, "StudyDate") if self.sources else ""
        return value_representations.date(said)


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """Finding: the answer for one label, absences included.

    Attributes
    ----------
    key, name
        Stable key of the label, and its name for a person.
    code
        Code of the finding.
    site
        Finding site; None where the code implies it.
    certainty
        Calibrated probability in [0, 1]; None when there is no calibration, and then only `score` is written.
    score
        The model's own number in [0, 1]: not a probability.
    threshold
        On the scale of `certainty` when there is one, else of `score`.
    saliency
        Best first; empty for findings that are not shown.
    qualifier
        Qualifier that narrows `code`, such as calcified for a granuloma; None for most.
    withheld
        Reason why a heat map that was drawn is not in `saliency`, as one clause; empty otherwise.
    earlier
        The answer to the prior, for a finding that is present now or was then; None otherwise.
    interval
        95 % interval of `certainty`, low and high, from the fit of the calibration; None where that is
        not known.
    """

    key: str
    name: str
    code: Code
    site: Code | None
    certainty: float | None
    score: float
    threshold: float
    presence: Presence
    saliency: tuple[Saliency, ...] = ()
    qualifier: Code | None = None
    withheld: str = ""
    earlier: PriorAnswer | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SimilarCase:
    """A case of a public reference set that looks like the study.

    Attributes
    ----------
    rank
        Rank from 1, the most similar first.
    identifier
        Identifier of the case in its collection, such as ``openi:CXR1234``.
    similarity
        Cosine similarity of the two embeddings, in [-1, 1].
    labels
        Labels of its reference that are present: the name for a person, and the code.
    report
        Findings and impression, for readers of this node; it is written into no object.
    """

    rank: int
    identifier: str
    similarity: float
    labels: tuple[tuple[str, Code], ...]
    report: str = ""

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.identifier or not abs(self.similarity) <= 1:
            raise ValueError(f"not a similar case: rank {self.rank}, similarity {self.similarity}")


@dataclass(frozen=True, slots=True)
class SimilarCases:
    """Similar cases of one reference set, and their agreement with the model.

    Attributes
    ----------
    index_name, index_digest
        Name of the searched index, and its SHA-256 in hexadecimal digits.
    algorithm
        The encoder that computed the embeddings.
    cases
        Cases, ordered by rank.
    agreement
        Share of the model's answers with which the cases agree, in [0, 1].
    disagrees
        True when the agreement is so low that a reader must be told.
    """

    index_name: str
    index_digest: str
    algorithm: Algorithm
    cases: tuple[SimilarCase, ...]
    agreement: float
    disagrees: bool

    def __post_init__(self) -> None:
        if [case.rank for case in self.cases] != list(range(1, len(self.cases) + 1)):
            raise ValueError("similar cases are ranked from 1 without gaps")
        if not 0 <= self.agreement <= 1:
            raise ValueError(f"agreement {self.agreement} does not lie in [0, 1]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Reason why a study, or one model's part of it, was not analysed.

    Attributes
    ----------
    reason
        Key into ``codes.REFUSALS``.
    text
        One sentence for a person.
    """

    reason: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Report of one revision of one study.

    Attributes
    ----------
    study_instance_uid
        UID of the study that every result joins.
    revision
        Counts up with each late image, from 1.
    created
        Frozen when the analysis was claimed first, so that a repeat is byte-identical; aware, UTC.
    sources
        Every received image of the study, at least one.
    algorithm
        Algorithm of the findings; None when no model was run.
    findings
        Empty when the study was refused.
    normality
        PRESENT: normal; ABSENT: abnormal; UNDETERMINED otherwise.
    refusal
        Set exactly when there are no findings.
    similar
        Similar cases; None when none were searched for.
    prior
        Comparison with a prior; None when none was searched for.
    one_of_several
        True where several models may report on a study: the descriptions of the series then name this one.
    """

    study_instance_uid: str
    revision: int
    created: datetime
    sources: tuple[Source, ...]
    algorithm: Algorithm | None
    findings: tuple[Finding, ...] = ()
    normality: Presence = Presence.UNDETERMINED
    refusal: Refusal | None = None
    similar: SimilarCases | None = None
    prior: PriorComparison | None = None
    one_of_several: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("a report needs at least one received image")
        if bool(self.findings) == (self.refusal is not None):
            raise ValueError("a report holds either findings or a refusal")
        if self.findings and self.algorithm is None:
            raise ValueError("findings need the algorithm that computed them")
        if self.created.tzinfo is None:
            raise ValueError("the report's time must carry its zone")

    def source(self, sop_instance_uid: str) -> Source | None:
        """Return one of the received images; None when there is none of that UID."""
        return next((each for each in self.sources if each.sop_instance_uid == sop_instance_uid), None)
