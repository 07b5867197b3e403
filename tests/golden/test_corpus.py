"""No writer changes an object by accident: every byte of the corpus is as it was.

Where a change is meant, ``python -m tests.support.golden`` writes the digests anew and names the objects.
"""

from __future__ import annotations

from tests.support.golden import corpus, digest, read_digests


def test_every_object_is_as_it_was() -> None:
    found = {name: digest(ds) for name, ds in corpus()}
    expected = read_digests()
    changed = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    assert not changed, f"{len(changed)} objects changed: {changed[:20]}"


def test_the_corpus_holds_every_kind_of_object() -> None:
    kinds = {name.rpartition(" / ")[2].split(" ")[0] for name in read_digests() if " / " in name}
    assert kinds == {"sr", "similar", "sc", "pdf", "seg", "pm", "pr", "ko"}
