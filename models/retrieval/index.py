"""Index of reference cases: their embeddings (:mod:`models.retrieval.embedding`) and labels.

::

    <index>/
      index.safetensors  "known", "films", and "reports" where there are any: float32, shape (cases, width)
      index.jsonl        one case a line: identifier, labels, report

The metadata of ``index.safetensors`` say which weights computed the vectors, and hold the sha256 of both
parts and of the metadata themselves: an index that is not what was written is refused, and so is one of other
weights. Reports are copied from the data set: an index is under its terms, and is never shipped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.errors import RetrievalError
from models.labels.vocabulary import load_vocabulary
from models.processing.types import FloatArray, Identity

VECTORS = "index.safetensors"
CASES = "index.jsonl"

FORMAT = "1"
KNOWN, FILMS, REPORTS = "known", "films", "reports"

#: How much longer than 1 a vector may be.
_LENGTH_TOLERANCE = 1e-3

Side = Literal["known", "films", "reports"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a reference case.

    Attributes
    ----------
    identifier
        Data set and study, such as ``openi:1234``.
    labels
        Keys of the vocabulary that are true of it.
    report
        Findings and impression; empty where there is none.
    """

    identifier: str
    labels: frozenset[str]
    report: str = ""

    def line(self) -> str:
        """As a line of ``index.jsonl``."""
        table = asdict(self) | {"labels": sorted(self.labels)}
        return json.dumps(table, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, line: str) -> Case:
        """Read what :meth:`line` wrote.

        Raises
        ------
        ValueError
            If it is something else, or names a label that the vocabulary does not hold.
        """
        table = json.loads(line)
        if not isinstance(table, dict) or set(table) != {"identifier", "labels", "report"}:
            raise ValueError("a case has an identifier, labels and a report, and nothing else")
        if unknown := set(table["labels"]) - set(load_vocabulary().labels):
            raise ValueError(f"the vocabulary holds no label {min(unknown)!r}")
        return cls(str(table["identifier"]), frozenset(table["labels"]), str(table["report"]))


@dataclass(frozen=True, slots=True)
class Origin:
    """What computed the vectors.

    Attributes
    ----------
    bundle
        Name and version, as its folder is called.
    weights_sha256, preprocessing
        Of the bundle.
    text_encoder
        Of the sentences of reports; empty for an index without them.
    """

    bundle: str
    weights_sha256: str
    preprocessing: str
    text_encoder: str = ""

    @classmethod
    def of(cls, identity: Identity, text_encoder: str = "") -> Origin:
        """Origin of vectors that a bundle computes."""
        bundle = f"{identity.name}-{identity.version}"
        return cls(bundle, identity.weights_sha256, identity.preprocessing, text_encoder)


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """An index in memory.

    Attributes
    ----------
    name
        Shown to a person, such as ``openi train``.
    origin
        What computed the vectors.
    cases
        In the order of the rows; their identifiers differ.
    films
        Shape (cases, width), float32: places by what the model sees on the films.
    known
        The same by the films' embedding and the labels that are known.
    reports
        The same by what the reports say, zero where a case has none; None where no case has one.
    digest
        Sha256 that stands for all of it, in lower-case hexadecimal; empty until it is written.

    Raises
    ------
    RetrievalError
        If the parts do not fit each other.
    """

    name: str
    origin: Origin
    cases: tuple[Case, ...]
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
            raise RetrievalError(f"index {self.name!r}: a case has no place")

    def _check(self, vectors: FloatArray) -> None:
        if vectors.dtype != np.float32 or vectors.shape != (len(self.cases), self.width):
            raise RetrievalError(
                f"index {self.name!r}: vectors are {vectors.dtype} {vectors.shape}, not float32 "
                f"{(len(self.cases), self.width)}"
            )
        lengths = np.linalg.norm(vectors, axis=1)
        # NaN fails the comparison, so this also refuses values that are not numbers.
        if not (lengths <= 1 + _LENGTH_TOLERANCE).all():
            raise RetrievalError(f"index {self.name!r}: a vector is longer than 1, or holds no numbers")

    def tensors(self) -> dict[str, FloatArray]:
        """All vectors, by the name that they have on disk."""
        found = {KNOWN: self.known, FILMS: self.films}
        return found if self.reports is None else found | {REPORTS: self.reports}

    @property
    def width(self) -> int:
        """Of the vectors."""
        return int(self.films.shape[1])

    def vectors(self, side: Side) -> FloatArray:
        """What queries are compared with, shape (cases, width).

        Parameters
        ----------
        side
            Of a case: what is ``known``, what is seen on its ``films``, or what its ``reports`` say.

        Raises
        ------
        RetrievalError
            If the index has no reports.
        """
        found = self.tensors()
        if side not in found:
            raise RetrievalError(f"index {self.name!r} holds no {side}: search another side of its cases")
        return found[side]

    def extended(self, more: Index) -> Index:
        """Index of these cases and, behind them, the cases of another that it does not hold yet.

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

    def check_origin(self, identity: Identity) -> None:
        """Refuse the vectors of other weights.

        Raises
        ------
        RetrievalError
            If the bundle did not build this index.
        """
        asked = Origin.of(identity, self.origin.text_encoder)
        if (asked.weights_sha256, asked.preprocessing) != (
            self.origin.weights_sha256,
            self.origin.preprocessing,
        ):
            raise RetrievalError(
                f"index {self.name!r} was built by {self.origin.bundle} (weights "
                f"{self.origin.weights_sha256[:12]}), not by {asked.bundle} ({asked.weights_sha256[:12]}): "
                "build it anew with dicom-node index build"
            )


def is_index(path: Path) -> bool:
    """Whether a folder holds an index, whole or not."""
    return (path / VECTORS).is_file()


def read_index(path: Path) -> Index:
    """Read and verify an index.

    Raises
    ------
    RetrievalError
        If there is none, or it was altered, or its parts do not fit each other.
    """
    if not is_index(path):
        raise RetrievalError(f"there is no index in {path}: make one with dicom-node index build")
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
        # Not splitlines: a report may hold what Unicode calls a line separator.
        cases = tuple(Case.parse(line) for line in lines.decode("utf-8").removesuffix("\n").split("\n"))
    except (TypeError, ValueError) as error:
        raise RetrievalError(f"index {path}: {CASES}: {error}") from error
    origin = Origin(said["bundle"], said["weights_sha256"], said["preprocessing"], said["text_encoder"])
    return Index(said["name"], origin, cases, tensors[FILMS], tensors[KNOWN], tensors.get(REPORTS), digest)


def write_index(path: Path, index: Index) -> Index:
    """Write an index; the folder appears whole or not at all, and replaces one that is there.

    Returns
    -------
    Index
        The same with its digest.

    Raises
    ------
    RetrievalError
        If the folder cannot be written, or holds something else than an index.
    """
    if path.exists() and {entry.name for entry in path.iterdir()} - {VECTORS, CASES}:
        raise RetrievalError(f"{path} holds other files than an index: name an empty or a new folder")
    lines = "".join(case.line() for case in index.cases).encode()
    tensors = index.tensors()
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
    return replace(index, digest=digest)


def _sha256_of(said: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _sha256_of_vectors(tensors: Mapping[str, FloatArray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def words_of(cases: Iterable[Case]) -> frozenset[str]:
    """Words that the reports use, in lower case."""
    return frozenset(word for case in cases for word in words(case.report))


def words(text: str) -> Sequence[str]:
    """Words of a text in lower case: runs of letters of any script."""
    return "".join(letter if letter.isalpha() else " " for letter in text.casefold()).split()
