"""A bundle is found by its folder, by its name and version, or by its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.bundles import lookup
from models.bundles.lookup import find_bundle_folder
from models.errors import BundleError


def test_the_newest_shipped_version_is_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for folder in ("shipped/tiny-0.9.0", "shipped/tiny-0.10.0", "shipped/tiny-0.2.0", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "bundle.toml").touch()
    (tmp_path / "shipped" / "tiny-9.9.9").mkdir()  # no bundle: it has no manifest
    monkeypatch.setattr(lookup, "shipped_folder", lambda: tmp_path / "shipped")
    assert find_bundle_folder("tiny", "bundle.toml").name == "tiny-0.10.0"
    assert find_bundle_folder("tiny-0.2.0", "bundle.toml").name == "tiny-0.2.0"
    assert find_bundle_folder(tmp_path / "elsewhere", "bundle.toml") == tmp_path / "elsewhere"
    with pytest.raises(BundleError, match=r"no bundle 'small'.*tiny-0\.10\.0"):
        find_bundle_folder("small", "bundle.toml")
    with pytest.raises(BundleError, match="there are none"):
        find_bundle_folder("tiny", "gate.toml")
