"""Case index: embeddings (:mod:`models.retrieval.embedding`), labels and reports of reference cases.

::

    <index>/
      index.safetensors  "known", "films", and "reports" where there are any: shape (cases, width), float32,
                         or float16 in a compact index
      index.jsonl        one case a line: identifier, labels, report

The metadata of ``index.safetensors`` name the weights that computed the vectors, and hold the sha256 of both
files and of the metadata: an altered index is refused, and so is one of other weights. Reports are copied
from the data set, so an index is under its terms of use. The package ships compact indexes, which hold
vectors, labels and identifiers alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.errors import RetrievalError
from models.labels.vocabulary import load_vocabulary
from models.processing.types import FloatArray, Identity

VECTORS = "index.safetensors"
CASES = "index.jsonl"

FORMAT = "1"
KNOWN: Final = "known"
FILMS: Final = "films"
REPORTS: Final = "reports"

#: Tolerance of a vector's length above 1.
_LENGTH_TOLERANCE = 1e-3

#: Vectors of the cases: image embedding with ``known`` labels, with the labels predicted from the ``films``,
#: or embedding and labels of the ``reports``.
Side = Literal["known", "films", "reports"]


@dataclass(frozen=True, slots=True)
class ReferenceCase:
    """Reference case: a study with known labels.

    Attributes
    ----------
    identifier
        Data set and study, such as ``openi:1234``.
    labels
        Keys of its labels in the vocabulary.
    report
        Findings and impression of its report; empty where there is none.
    """

    identifier: str
    labels: frozenset[str]
    report: str = ""

    def line(self) -> str:
        """Line of ``index.jsonl`` for this case."""
        table = asdict(self) | {"labels": sorted(self.labels)}
        return json.dumps(table, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, line: str) -> ReferenceCase:
        """Case from a line that :meth:`line` wrote.

        Raises
        ------
        ValueError
            If the line is something else, or names a label that the vocabulary does not have.
        """
        table = json.loads(line)
        if not isinstance(table, dict) or set(table) != {"identifier", "labels", "report"}:
            raise ValueError("a case has an identifier, labels and a report, and nothing else")
        if unknown := set(table["labels"]) - set(load_vocabulary().labels):
            raise ValueError(f"the vocabulary holds no label {min(unknown)!r}")
        return cls(str(table["identifier"]), frozenset(table["labels"]), str(table["report"]))


@dataclass(frozen=True, slots=True)
class EmbeddingOrigin:
    """Origin of an index's vectors: the bundle and the text encoder that computed them.

    Attributes
    ----------
    bundle
        Name and version of the bundle, as in the name of its folder.
    weights_sha256, preprocessing
        Hashes of the bundle's weights and preprocessing.
    text_encoder
        Identity of the sentence encoder of the reports; empty for an index without reports.
    """

    bundle: str
    weights_sha256: str
    preprocessing: str
    text_encoder: str = ""

    @classmethod
    def of(cls, identity: Identity, text_encoder: str = "") -> EmbeddingOrigin:
        """Origin of vectors that a bundle computes."""
        bundle = f"{identity.name}-{identity.version}"
        return cls(bundle, identity.weights_sha256, identity.preprocessing, text_encoder)


@dataclass(frozen=True, slots=True, eq=False)
class CaseIndex:
    """A case index in memory.

    Attributes
    ----------
    name
        Name shown to a person, such as ``openi train``.
    origin
        Bundle and text encoder that computed the vectors.
    cases
        Cases in the order of the rows; identifiers are unique.
    films
        Study embeddings of the predictions from the films, shape (cases, width), float32.
    known
        Study embeddings of the films with the known labels, same shape.
    reports
        Study embeddings of the reports, same shape, zero where a case has none; None where no case has one.
    digest
        Sha256 of the whole index, in lower-case hexadecimal; empty until it is written.

    Raises
    ------
    RetrievalError
        If the parts do not fit each other.
    """

    name: str
    origin: EmbeddingOrigin
    cases: tuple[ReferenceCase, ...]
    films: FloatArray
    known: FloatArray
    reports: FloatArray | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if not self.cases:
            raise RetrievalError(f"index {self.name!r} holds no case: build it from a split that has some")
        names = [case.identifier for case in self.cases]
        if len(set(names)) != len(names):
            twice = min(name for name in names if names.count(name) > 1)
            raise RetrievalError(f"index {self.name!r}: the case {twice} is in it twice")
        for vectors in self.tensors().values():
            self._check(vectors)
        if not (self.films.any(axis=1) & self.known.any(axis=1)).all():
            raise RetrievalError(f"index {self.name!r}: a case has no embedding")

    def _check(self, vectors: FloatArray) -> None:
        if vectors.dtype != np.float32 or vectors.shape != (len(self.cases), self.width):
            raise RetrievalError(
                f"index {self.name!r}: vectors are {vectors.dtype} {vectors.shape}, not float32 "
                f"{(len(self.cases), self.width)}"
            )
        lengths = np.linalg.norm(vectors, axis=1)
        # NaN fails the comparison, so NaN is refused, too.
        if not (lengths <= 1 + _LENGTH_TOLERANCE).all():
            raise RetrievalError(f"index {self.name!r}: a vector is longer than 1, or holds no numbers")

    def tensors(self) -> dict[str, FloatArray]:
        """Vectors by their name on disk."""
        found = {KNOWN: self.known, FILMS: self.films}
        return found if self.reports is None else found | {REPORTS: self.reports}

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return int(self.films.shape[1])

    def vectors(self, side: Side) -> FloatArray:
        """Vectors that queries are compared with, shape (cases, width).

        Parameters
        ----------
        side
            One of :data:`Side`.

        Raises
        ------
        RetrievalError
            If the index has no reports.
        """
        found = self.tensors()
        if side not in found:
            raise RetrievalError(f"index {self.name!r} holds no {side}: search another side of its cases")
        return found[side]

    def extended(self, more: CaseIndex) -> CaseIndex:
        """Index of these cases, followed by the cases of another index that are not in it yet.

        Raises
        ------
        RetrievalError
            If other weights computed the other's vectors, or only one of the two has reports.
        """
        if more.origin != self.origin:
            raise RetrievalError(
                f"index {self.name!r} is of bundle {self.origin.bundle} (weights "
                f"{self.origin.weights_sha256[:12]}), the new cases are of {more.origin.bundle} "
                f"({more.origin.weights_sha256[:12]}): their vectors cannot be compared"
            )
        held = {case.identifier for case in self.cases}
        rows = [row for row, case in enumerate(more.cases) if case.identifier not in held]
        reports = None
        if self.reports is not None and more.reports is not None:
            reports = np.concatenate((self.reports, more.reports[rows]))
        return replace(
            self,
            name=f"{self.name}, {more.name}",
            digest="",
            cases=(*self.cases, *(more.cases[row] for row in rows)),
            films=np.concatenate((self.films, more.films[rows])),
            known=np.concatenate((self.known, more.known[rows])),
            reports=reports,
        )

    def without_reports(self) -> CaseIndex:
        """Index of the same films and labels that holds no word of a report."""
        cases = tuple(replace(case, report="") for case in self.cases)
        origin = replace(self.origin, text_encoder="")
        return replace(self, origin=origin, cases=cases, reports=None, digest="")

    def check_origin(self, identity: Identity) -> None:
        """Check that a bundle computed the vectors.

        Raises
        ------
        RetrievalError
            If the bundle did not build this index.
        """
        asked = EmbeddingOrigin.of(identity, self.origin.text_encoder)
        if (asked.weights_sha256, asked.preprocessing) != (
            self.origin.weights_sha256,
            self.origin.preprocessing,
        ):
            raise RetrievalError(
                f"index {self.name!r} was built by {self.origin.bundle} (weights "
                f"{self.origin.weights_sha256[:12]}), not by {asked.bundle} ({asked.weights_sha256[:12]}): "
                f"build it anew: `dicom-node cases build {asked.bundle} --data FOLDER`"
            )


BUILD = "dicom-node cases build BUNDLE --data FOLDER"
"""Command that builds an index; its default folder is the one that a node looks into."""


def is_index(path: Path) -> bool:
    """True where a folder holds an index, complete or not."""
    return (path / VECTORS).is_file()


def shipped_index(bundle: str) -> Path:
    """Folder of the index that comes with the package for a bundle; it need not exist.

    Parameters
    ----------
    bundle
        Name of the bundle's folder: NAME-VERSION.
    """
    return Path(str(resources.files("models"))) / "retrieval" / "indexes" / bundle


def find_index(built: Path, bundle: str) -> Path:
    """Folder of a bundle's index: where one was built, else that of the package where it ships one.

    Parameters
    ----------
    built
        Folder in which a user's own index of the bundle lies, if there is any.
    bundle
        Name of the bundle's folder: NAME-VERSION.
    """
    shipped = shipped_index(bundle)
    return shipped if is_index(shipped) and not is_index(built) else built


def read_index(path: Path) -> CaseIndex:
    """Read and verify an index.

    Raises
    ------
    RetrievalError
        If there is no index, or it was altered, or its parts do not fit each other.
    """
    if not is_index(path):
        raise RetrievalError(f"there is no index in {path}: `{BUILD}` makes one")
    try:
        with safe_open(path / VECTORS, framework="numpy") as file:
            said = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        lines = (path / CASES).read_bytes()
    except (SafetensorError, OSError, ValueError) as error:
        raise RetrievalError(f"index {path} cannot be read: {error}; build it anew") from error
    digest = said.pop("sha256", "")
    if said.get("format") != FORMAT or digest != _sha256_of(said):
        raise RetrievalError(f"index {path}: {VECTORS} is no index of this format, or altered: build it anew")
    if said["cases_sha256"] != hashlib.sha256(lines).hexdigest():
        raise RetrievalError(f"index {path}: {CASES} was altered: build it anew")
    if set(tensors) | {REPORTS} != {KNOWN, FILMS, REPORTS} or said["vectors_sha256"] != _sha256_of_vectors(
        tensors
    ):
        raise RetrievalError(f"index {path}: the vectors in {VECTORS} were altered: build it anew")
    try:
        # Not splitlines: a report may contain Unicode line separators.
        cases = tuple(
            ReferenceCase.parse(line) for line in lines.decode("utf-8").removesuffix("\n").split("\n")
        )
    except (TypeError, ValueError) as error:
        raise RetrievalError(f"index {path}: {CASES}: {error}") from error
    origin = EmbeddingOrigin(
        said["bundle"], said["weights_sha256"], said["preprocessing"], said["text_encoder"]
    )
    if {vectors.dtype for vectors in tensors.values()} == {np.dtype(np.float16)}:
        tensors = {name: vectors.astype(np.float32) for name, vectors in tensors.items()}
    return CaseIndex(
        said["name"], origin, cases, tensors[FILMS], tensors[KNOWN], tensors.get(REPORTS), digest
    )


def write_index(path: Path, index: CaseIndex, *, compact: bool = False) -> CaseIndex:
    """Write an index; the folder appears complete or not at all, and replaces an existing index.

    Parameters
    ----------
    compact
        Whether the vectors are kept in half precision and no report is: a tenth of the size, and no text
        of the data set.

    Returns
    -------
    CaseIndex
        Index as it is read again, with its digest.

    Raises
    ------
    RetrievalError
        If the folder cannot be written, or holds other files than an index.
    """
    if path.exists() and {entry.name for entry in path.iterdir()} - {VECTORS, CASES}:
        raise RetrievalError(f"{path} holds other files than an index: name an empty or a new folder")
    index = index.without_reports() if compact else index
    lines = "".join(case.line() for case in index.cases).encode()
    tensors = index.tensors()
    if compact:
        tensors = {name: vectors.astype(np.float16) for name, vectors in tensors.items()}
    said = {
        "format": FORMAT,
        "name": index.name,
        **asdict(index.origin),
        "cases_sha256": hashlib.sha256(lines).hexdigest(),
        "vectors_sha256": _sha256_of_vectors(tensors),
    }
    digest = _sha256_of(said)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as draft:
            folder, before = Path(draft) / "new", Path(draft) / "old"
            folder.mkdir()
            save_file(tensors, folder / VECTORS, metadata=said | {"sha256": digest})
            (folder / CASES).write_bytes(lines)
            if path.exists():
                path.rename(before)
            folder.rename(path)
            shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        raise RetrievalError(f"index {path} cannot be written: {error.strerror}") from error
    return read_index(path) if compact else replace(index, digest=digest)


def _sha256_of(said: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _sha256_of_vectors(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def report_words(cases: Iterable[ReferenceCase]) -> frozenset[str]:
    """Words of the reports of cases, in lower case."""
    return frozenset(word for case in cases for word in split_words(case.report))


def split_words(text: str) -> Sequence[str]:
    """Words of a text in lower case: runs of letters of any script."""
    return "".join(letter if letter.isalpha() else " " for letter in text.casefold()).split()
