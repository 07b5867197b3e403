"""Damaged films and associations against a whole node: each is accounted for, and no process of it ends."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx
from sqlalchemy import select

from dicom_node.imaging.radiographs import ACCEPTED_SOP_CLASSES
from dicom_node.imaging.transfer_syntaxes import TRANSFER_SYNTAXES
from dicom_node.store import database
from dicom_node.store.states import OUTCOMES, StudyState
from dicom_node.store.tables import instance, study
from tests.support.conservation import NodeState
from tests.support.kills import destination_of
from tests.support.mutated_associations import PduStream, mutated_associations
from tests.support.mutated_films import EncodedFilm, mutated_file, mutated_films, whole_films
from tests.support.peers import Node, StoreSCP, until
from tests.support.raw_association import ASSOCIATE_AC, RawAssociation, message, store_rq
from tests.support.tiny_bundle import write_served_bundle

_Item = TypeVar("_Item")

_SENDERS = 4
_PER_ASSOCIATION = 25
_UPLOADED, _VIEWED = 10, 15
"""One in so many films is uploaded to the page too, and one in so many studies is looked at."""
_CLASSES = tuple(map(str, ACCEPTED_SOP_CLASSES))
_PAIRS = [(sop_class, str(syntax)) for sop_class in _CLASSES for syntax in TRANSFER_SYNTAXES]
_CONTEXTS = {pair: 2 * number + 1 for number, pair in enumerate(_PAIRS)}
_CRASHES = re.compile(
    r"Traceback|Exception ignored|Fatal Python error|Segmentation|core dumped|ended with .*; restarting"
)
_STREAMS_BEGIN_AT = 10_000_000
"""Number of the first association: its films share no UID with the films that are sent alone."""


class MutationRun:
    """Node with a small model, an archive that takes its results, and what became of all that was sent.

    Parameters
    ----------
    folder
        Empty folder.
    seed
        Seed of the damage.
    films
        Folder of further films to damage; None for drawn ones only.

    Attributes
    ----------
    answers
        Number of films by the answer to their C-STORE request, of associations by how they ended, of
        uploads and views by status.
    """

    def __init__(self, folder: Path, seed: int, films: Path | None = None) -> None:
        self.answers: dict[str, Counter[str]] = {
            each: Counter() for each in ("films", "associations", "responses", "uploads", "views")
        }
        self._folder = folder
        self._seed = seed
        self._sources = whole_films(films)
        self._lock = threading.Lock()
        self._stored: set[str] = set()
        self._refused: set[str] = set()
        self.state = NodeState(folder / "node")

    def run(self, films: int, associations: int) -> None:
        """Send so many films and associations, and assert that each is accounted for."""
        bundle = write_served_bundle(self._folder / "bundle")
        settings = {
            "worker__bundle": bundle,
            "worker__threads": "1",
            "results__saliency_limit": "1",
            "dicom__association_seconds": "5",
            "dicom__pdu_seconds": "5",
            "dicom__idle_seconds": "60",
            "web__patient": "name",
            "web__requests_per_minute": "1000000",
        }
        with (
            StoreSCP(self._folder / "pacs") as pacs,
            Node(
                self._folder / "node",
                [destination_of(pacs)],
                ready_seconds=180,
                parallel=True,
                log_level="INFO",
                **settings,
            ) as node,
        ):
            before = node.children()
            batches = _batches(mutated_films(self._sources, self._seed, films), _PER_ASSOCIATION)
            self._each(lambda batch: self._send(node, batch), batches)
            streams = mutated_associations(self._seed, associations, _STREAMS_BEGIN_AT)
            self._each(lambda stream: self._exchange(node, stream), streams)
            until(lambda: self.state.at_rest(0), 60 + films + associations, "every study has an outcome")
            self._view(node)
            with RawAssociation(node.port) as wire:
                wire.associate()
                assert wire.echo().status == 0
                wire.release()
            assert httpx.get(f"{node.page}readyz", trust_env=False, timeout=30).status_code == 200
            assert node.children() == before, node.output[-4000:]
            assert node.cli("status", "--audit", "--read-files").returncode == 0
            assert node.stop(seconds=60) == 0
            crashes = [line for line in node.lines if _CRASHES.search(line)]
            assert not crashes, "\n".join(crashes[:20])
        self._check()

    def _each(self, act: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        with ThreadPoolExecutor(_SENDERS) as pool:
            for _ in pool.map(act, items):
                pass

    # -- films

    def _send(self, node: Node, films: Sequence[EncodedFilm]) -> None:
        wire: RawAssociation | None = None
        for film in films:
            wire = wire or self._associated(node)
            context = _CONTEXTS[film.sop_class, film.transfer_syntax]
            request = store_rq(film.sop_class.encode(), film.sop_instance.encode())
            try:
                wire.write(message(request, film.data_set, context_id=context))
                status = wire.answer().status
            except (EOFError, ConnectionError, AssertionError):
                self._count("films", "aborted")
                wire.socket.close()
                wire = None
                continue
            with self._lock:
                (self._refused if status else self._stored).add(film.sop_instance)
            self._count("films", f"{status:04X}")
        if wire is not None:
            wire.release()
            wire.socket.close()
        for film in films[::_UPLOADED]:
            self._upload(node, film)

    @staticmethod
    def _associated(node: Node) -> RawAssociation:
        wire = RawAssociation(node.port, seconds=60)
        kind, _ = wire.associate([(number, *_context(pair)) for pair, number in _CONTEXTS.items()])
        assert kind == ASSOCIATE_AC
        return wire

    def _upload(self, node: Node, film: EncodedFilm) -> None:
        chosen = random.Random(film.sop_instance)
        kind = chosen.choice(("instances", "trials"))
        with httpx.Client(trust_env=False, timeout=120) as client:
            found = re.search(r'X-CSRF-Token": "(\w+)"', client.get(f"{node.page}try").text)
            assert found
            answer = client.post(
                f"{node.page}api/v1/{kind}",
                content=mutated_file(film, chosen),
                headers={"X-CSRF-Token": found[1]},
            )
        assert answer.status_code in (201, 413, 415, 503), (film.name, answer.status_code, answer.text)
        assert answer.status_code == 201 or answer.json()["error"]
        if answer.status_code == 201 and kind == "instances":
            with self._lock:
                self._refused.discard(film.sop_instance)  # the page reads past what a receiver refuses
        self._count("uploads", str(answer.status_code))

    # -- associations

    def _exchange(self, node: Node, stream: PduStream) -> None:
        answers = stream.exchange(node.port)
        assert not answers.rest, stream
        with self._lock:
            self._stored.update(answers.stored)
        last = {2: "accepted", 3: "rejected", 4: "answered", 6: "released", 7: "aborted"}
        self._count("associations", last[answers.kinds[-1]] if answers.kinds else "closed")
        for status, number in answers.refused.items():
            self._count("responses", f"{status:04X}", number)
        self._count("responses", "0000", len(answers.stored))

    # -- the page

    def _view(self, node: Node) -> None:
        """Look at some studies as readers and viewers do: the page, the picture, the header."""
        with database.reading(self.state.index.engine) as connection:
            rows = connection.execute(
                select(
                    study.c.id,
                    study.c.study_instance_uid,
                    instance.c.series_instance_uid,
                    instance.c.sop_instance_uid,
                )
                .join(instance, instance.c.study_id == study.c.id)
                .order_by(study.c.id)
            ).all()
        self._each(lambda row: self._view_one(node, *row), rows[::_VIEWED])

    def _view_one(self, node: Node, number: int, study_uid: str, series: str, sop_instance: str) -> None:
        of_instance = f"dicom-web/studies/{study_uid}/series/{series}/instances/{sop_instance}"
        paths = [f"studies/{number}", f"api/v1/studies/{number}", f"api/v1/studies/{number}/viewer"]
        paths += [of_instance + end for end in ("/metadata", "/rendered", "/frames/1", "/thumbnail")]
        with httpx.Client(trust_env=False, timeout=120) as client:
            for path in paths:
                status = client.get(node.page + path).status_code
                assert status < 500 or status == 503, (path, status)
                self._count("views", str(status))

    # -- what must hold in the end

    def _check(self) -> None:
        with database.reading(self.state.index.engine) as connection:
            rows = connection.execute(
                select(instance.c.sop_instance_uid, instance.c.set_aside, study.c.state, study.c.reason).join(
                    study, instance.c.study_id == study.c.id
                )
            ).all()
        kept = {row.sop_instance_uid for row in rows}
        assert self._stored <= kept, sorted(self._stored - kept)[:5]
        assert not self._refused & kept, sorted(self._refused & kept)[:5]
        for row in rows:
            assert row.state in OUTCOMES, row
            assert row.state == StudyState.REPORTED or row.reason, row
        self.state.check_audit()

    def outcomes(self) -> Counter[str]:
        """Number of stored films by the state of their study, or by why they are set aside."""
        with database.reading(self.state.index.engine) as connection:
            rows = connection.execute(
                select(instance.c.set_aside, study.c.state).join(study, instance.c.study_id == study.c.id)
            ).all()
        return Counter(row.set_aside or row.state for row in rows)

    def _count(self, what: str, how: str, number: int = 1) -> None:
        with self._lock:
            self.answers[what][how] += number


def _context(pair: tuple[str, str]) -> tuple[str, list[str]]:
    sop_class, syntax = pair
    return sop_class, [syntax]


def _batches(items: Iterator[EncodedFilm], size: int) -> Iterator[list[EncodedFilm]]:
    batch: list[EncodedFilm] = []
    for each in items:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
