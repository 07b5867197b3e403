"""``evaluate --through-pacs``: a bundle is evaluated by the reports that a real Orthanc holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.peers import cli


@pytest.mark.films
@pytest.mark.timeout(600)
def test_what_comes_back_through_orthanc_is_what_this_process_says(films_root: Path, tmp_path: Path) -> None:
    done = cli(
        "evaluate", "openi-findings", "--data", str(films_root / "openi"), "--split", "test",
        "--through-pacs", str(tmp_path / "pacs"), "--films", "30",
        "--figures", str(tmp_path / "figures.json"),
        seconds=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 lost" in done.stdout
    assert "RESEARCH USE ONLY" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    account = figures["through_pacs"]
    assert 25 <= account["films"] == account["films_received"] <= 30
    assert account["conserved"]
    assert account["lost"] == 0
    assert account["studies"] == account["reports"]
    assert figures["n_studies"] == account["studies"] - sum(account["refused"].values())
    # What differs is the rounding to the header's bits.
    assert account["largest_difference"]["score_where_every_film_was_read"] < 0.01
    assert account["largest_difference"]["macro_auc"] < 0.001


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("--text", "indication"), "films alone"), (("--out", "/tmp"), "leave out")],
)
def test_what_does_not_go_together_is_said(words: tuple[str, str], sentence: str, tmp_path: Path) -> None:
    done = cli("evaluate", "openi-findings", "--data", str(tmp_path), "--through-pacs", str(tmp_path), *words)
    assert done.returncode == 2
    assert sentence in done.stderr
