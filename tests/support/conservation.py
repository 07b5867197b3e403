"""What must hold of a node after any fault: nothing that was acknowledged is lost, nothing is said twice."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import select

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store import database
from dicom_node.store.audit import IndexQueries
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import Index
from dicom_node.store.states import DELIVERED, OUTCOMES, ResultState, StudyState
from dicom_node.store.tables import delivery, instance, result, study
from tests.support.film_stream import AcknowledgedFilm


@dataclass(slots=True)
class Receptions:
    """What an archive received.

    Attributes
    ----------
    digests
        SHA-256 of each reception, by SOP Instance UID.
    reports
        SOP Instance UIDs of structured reports, by Study Instance UID.
    """

    digests: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    reports: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, files: Iterable[Path]) -> Receptions:
        """Receptions from the files of an archive, one for each reception."""
        found = cls()
        for path in files:
            ds = dcmread(path, specific_tags=["SOPInstanceUID", "StudyInstanceUID", "Modality"])
            content = path.read_bytes()
            digest = hashlib.sha256(content[data_set_offset(content) :]).hexdigest()
            found.digests[str(ds.SOPInstanceUID)].append(digest)
            if ds.Modality == "SR":
                found.reports[str(ds.StudyInstanceUID)].add(str(ds.SOPInstanceUID))
        return found

    @property
    def repeats(self) -> int:
        """Number of receptions of what had come before."""
        return sum(len(each) - 1 for each in self.digests.values())


class NodeState:
    """State of a data directory, read beside the node that works on it."""

    def __init__(self, data_dir: Path) -> None:
        settings = Settings(data_dir=data_dir)
        self.folders = DataDir(settings)
        self.index = Index(database.connect(settings.database))

    def studies(self) -> Counter[str]:
        """Number of studies by state; states without any are left out."""
        counts = IndexQueries(self.index.engine).study_counts()
        return Counter({str(state): count for state, count in counts.items() if count})

    def outcomes(self) -> Counter[str]:
        """Number of studies whose analysis has ended, by state."""
        return Counter({state: count for state, count in self.studies().items() if state in OUTCOMES})

    def at_rest(self, studies: int) -> bool:
        """Whether at least so many studies have an outcome, none is open, and every result has arrived."""
        overview = IndexQueries(self.index.engine)
        counts = overview.study_counts()
        ended = sum(counts[state] for state in OUTCOMES)
        waiting = overview.result_counts()[ResultState.ENCODED]
        return ended >= studies and ended == sum(counts.values()) - counts[StudyState.PRIOR] and not waiting

    def check_films(self, acknowledged: Mapping[str, AcknowledgedFilm]) -> None:
        """Assert that each acknowledged film is indexed once, and kept with the bytes that were sent."""
        with database.reading(self.index.engine) as connection:
            rows = connection.execute(
                select(instance.c.sop_instance_uid, instance.c.digest, instance.c.file)
            ).all()
        assert len(rows) == len({row.sop_instance_uid for row in rows})
        kept = {row.sop_instance_uid: row for row in rows}
        assert set(acknowledged) <= set(kept), sorted(set(acknowledged) - set(kept))
        for uid, film in acknowledged.items():
            content = self.folders.spool.path(kept[uid].file).read_bytes()
            digest = hashlib.sha256(content[data_set_offset(content) :]).hexdigest()
            assert digest == kept[uid].digest == film.digest, uid

    def check_fates(self, acknowledged: Mapping[str, AcknowledgedFilm]) -> None:
        """Assert that each study has one outcome, the one of its film, and was never opened anew."""
        with database.reading(self.index.engine) as connection:
            rows = connection.execute(
                select(study.c.study_instance_uid, study.c.state, study.c.revision, study.c.reason)
            ).all()
        fates = {row.study_instance_uid: row for row in rows}
        for film in acknowledged.values():
            row = fates[film.study]
            expected = StudyState.REPORTED if film.chest else StudyState.SKIPPED
            assert (row.state, row.revision) == (expected, 1), row

    def check_audit(self) -> None:
        """Assert that the audit, which reads every file, finds nothing lost."""
        folders = self.folders
        audit = IndexQueries(self.index.engine).audit(folders.spool, folders.results, read_files=True)
        assert audit.conserved, audit.violations

    def check_results(self, received: Receptions) -> None:
        """Assert that every result arrived as one instance, a repeat the same to the byte, one SR a study."""
        sent = result.join(delivery).join(study)
        with database.reading(self.index.engine) as connection:
            rows = connection.execute(
                select(result.c.sop_instance_uid, study.c.study_instance_uid, delivery.c.state).select_from(
                    sent
                )
            ).all()
        assert {row.state for row in rows} <= DELIVERED
        assert set(received.digests) == {row.sop_instance_uid for row in rows}
        assert {uid: len(set(each)) for uid, each in received.digests.items() if len(set(each)) > 1} == {}
        studies = {row.study_instance_uid for row in rows}
        assert {uid: len(received.reports[uid]) for uid in studies if len(received.reports[uid]) != 1} == {}
