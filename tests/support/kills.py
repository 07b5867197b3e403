"""Kills of a node's processes at random moments, while films arrive."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.conservation import NodeState
from tests.support.film_stream import AcknowledgedFilm, FilmStream
from tests.support.part_server import PARTS, PartServer
from tests.support.peers import Node, Redis, StoreSCP, node_environment, until
from tests.support.tiny_bundle import write_served_bundle

_KILLS = {"scp": 45, "sender": 42, "sweep": 6, "worker": 3, "everything": 4}
"""How often each part is killed, relative to the others: a worker takes seconds to begin again."""


def kill_parts(
    folder: Path,
    data_dir: Path,
    pacs: StoreSCP,
    chosen: random.Random,
    kills: int,
    killed: Counter[str],
) -> dict[str, AcknowledgedFilm]:
    """Kill parts of a node with a small model until so many processes were killed, and wait until it rests.

    Returns the films that were acknowledged.

    Parameters
    ----------
    folder
        Folder for films, bundle and broker.
    pacs
        Archive that gets the results.
    chosen
        Source of chance.
    killed
        Number of killed processes by part; added to.
    """
    bundle = write_served_bundle(folder / "bundle")
    with Redis(folder) as redis:
        settings = node_environment(
            data_dir,
            [destination_of(pacs)],
            broker_url=redis.url,
            worker__bundle=bundle,
            worker__threads="1",
            worker__max_attempts="50",
            log_level="WARNING",
        )
        with PartServer(data_dir, settings) as parts:
            with FilmStream(folder / "films", parts.port, chosen) as films:
                state = NodeState(data_dir)
                _kill_parts(parts, pacs, state, chosen, kills)
            films_sent = films.acknowledged
            until(
                lambda: state.at_rest(len(films_sent)), 600, "every study has an outcome, every result left"
            )
    killed.update(parts.kills)
    return films_sent


def _kill_parts(
    parts: PartServer, pacs: StoreSCP, state: NodeState, chosen: random.Random, kills: int
) -> None:
    outcomes = 0
    while sum(parts.kills.values()) < kills:
        time.sleep(chosen.expovariate(2.5))
        (victim,) = chosen.choices([*_KILLS], [*_KILLS.values()])
        if victim in ("worker", "everything"):
            # A worker that is killed before it has read anything is no moment of its work.
            if (ended := sum(state.outcomes().values())) == outcomes:
                continue
            outcomes = ended
        if victim == "sender":
            _await_reception(pacs, 2)
            time.sleep(chosen.uniform(0, 0.02))
        if victim == "everything":
            parts.kill(*PARTS)
        else:
            parts.kill(victim, chosen=chosen if chosen.random() < 0.7 else None)


def kill_node(
    data_dir: Path,
    pacs: StoreSCP,
    port: str,
    chosen: random.Random,
    kills: int,
    killed: Counter[str],
) -> None:
    """Kill processes of ``dicom-node serve``, its supervisor, or all of it, that many times.

    The arguments are those of :func:`kill_parts`; `port` is the one that the films are sent to.
    """
    done = 0
    while done < kills:
        with Node(
            data_dir,
            [destination_of(pacs)],
            ready_seconds=180,
            parallel=True,
            dicom__port=port,
            worker__max_attempts="50",
        ) as node:
            while done < kills:
                time.sleep(chosen.uniform(0, 4))
                children = node.children()
                victim = chosen.choice([*children, "worker", "supervisor", "whole node"])
                done += 1
                killed[f"serve: {victim}"] += 1
                if victim == "whole node":
                    _kill(node.process.pid, *(pid for pids in children.values() for pid in pids))
                elif victim == "supervisor":
                    _kill(node.process.pid)
                else:
                    _kill(*children.get(victim, [])[:1])
                    continue
                node.stop(signal.SIGKILL)
                break


def destination_of(pacs: StoreSCP) -> dict[str, Any]:
    """Destination of an archive that cannot be asked what it keeps."""
    return {**pacs.destination, "confirm": "response"}


def _await_reception(pacs: StoreSCP, seconds: float) -> None:
    """Wait until the archive tells of another request, or for some seconds."""
    deadline = time.monotonic() + seconds
    before = len(pacs.lines)
    while len(pacs.lines) == before and time.monotonic() < deadline:
        time.sleep(0.002)


def _kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
