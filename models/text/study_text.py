"""The text that a model may read beside the films: none, the indication, or a report freed of its labels.

Labels come from the report, so a model that reads it reads its own labels. Here every term of every label
goes, and the negations that go with them: "No focal consolidation, pneumothorax or large effusion" says as
much as the labels do. What is left was still written by the reader of the films; figures that were reached
with it are no figures of an image model.
"""

from __future__ import annotations

import functools
import re

from models.errors import UsageError
from models.labels.vocabulary import Label, Vocabulary

#: What may be read: nothing; what was known before; the report without what says its labels.
TEXTS = ("none", "indication", "report")

#: Stands where a term was. No report holds it, and what comes in is freed of it.
_MARK = "\0"

# A word of the gaps between a negation and its terms; a gap ends with the sentence, or where its sense turns.
_WORD = rf"(?!(?:but|however|although|though|except)\b)[^\s.;:!?{_MARK}]+"
_GAP = rf"(?:\s+{_WORD})"

_CUE = (
    r"(?:\bthere\s+(?:is|are|was|were|has\s+been|have\s+been)\s+)?"
    rf"(?:\b(?:no|not|nor|neither|without|never|free\s+of|absen(?:ce|t)(?:\s+of)?|lack\s+of|den(?:y|ies)"
    rf"|rules?\s+out|ruled\s+out|exclud(?:e|es|ed|ing)|resolution\s+of|resolved)\b|{_MARK}\s+(?:of|for)\b)"
)

#: "no evidence of X", and the rest of the list: "no X, Y or large Z".
_BEFORE = re.compile(rf"{_CUE}{_GAP}{{0,6}}\s*{_MARK}(?:{_GAP}{{0,3}}\s*{_MARK})*", re.IGNORECASE)

#: "X is not seen", "X has resolved".
_AFTER = re.compile(
    rf"{_MARK}(?:\s+(?:is|are|was|were|has|have|been|be))*\s+"
    r"(?:(?:not|no\s+longer)(?:\s+\w+){0,2}|absent|excluded|ruled\s+out|resolved|unlikely)\b",
    re.IGNORECASE,
)

#: What a sentence may not consist of alone: the shell of a statement whose terms went.
_SHELL = (
    "a acute again also an and any are as at be been by evidence for focal has have identified in is it no"
    " nor not noted of on or otherwise present seen the there these this to visualized was were with within "
    "without"
)

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WORDS = re.compile(r"[^\W_]+")
_HYPHENS = re.compile(r"[\s,/_-]+")


def terms(label: Label) -> frozenset[str]:
    """Words that say a label, in lower case: its names, its headings, its synonyms.

    MeSH writes "Hernia, Hiatal", people write "hiatal hernia": both are there. Of a rule with a qualifier the
    qualifier counts, for its heading may be no more than a place.
    """
    names = re.sub(r"\(.*?\)", " ", label.name).split(" and ")
    headings = [rule.qualifier or rule.heading for rule in label.mesh]
    turned = [" ".join(reversed(heading.split(", "))) for heading in headings]
    found = (*names, *headings, *turned, *label.synonyms, (label.nih or "").replace("_", " "))
    return frozenset(" ".join(term.casefold().split()) for term in found) - {""}


def readable(kind: str, *, indication: str, report: str, vocabulary: Vocabulary) -> str | None:
    """Text of one study as a model reads it; None where there is nothing to read.

    Parameters
    ----------
    kind
        One of :data:`TEXTS`.
    indication, report
        Texts of the study; empty where there is none.
    vocabulary
        Whose labels a report is freed of.

    Raises
    ------
    UsageError
        If there is no such kind of text.
    """
    if kind not in TEXTS:
        raise UsageError(f"there is no text {kind!r}; use one of {', '.join(TEXTS)}")
    if kind == "none":
        return None
    text = indication if kind == "indication" else scrub(report, vocabulary)
    return text if text.strip() else None


def scrub(text: str, vocabulary: Vocabulary) -> str:
    """Take out of a report what says its labels.

    Parameters
    ----------
    text
        Text of a report, in English.
    vocabulary
        Whose labels are not to be read.

    Returns
    -------
    str
        Without any term of the vocabulary, in singular or plural, and without the negations and the empty
        sentences that they leave. Scrubbing it again changes nothing.
    """
    pattern = _pattern(frozenset().union(*(terms(label) for label in vocabulary.labels.values())))
    before, text = "", text.replace(_MARK, " ")
    while text != before:
        # Where a term went, its neighbours may have become one.
        before, text = text, _scrub_once(text, pattern)
    return text


def _scrub_once(text: str, pattern: re.Pattern[str]) -> str:
    text = pattern.sub(f" {_MARK} ", text)
    text = _AFTER.sub(_MARK, _BEFORE.sub(_MARK, text))
    sentences = (_tidy(sentence) for sentence in _SENTENCE.split(text.replace(_MARK, " ")))
    return " ".join(sentence for sentence in sentences if _says_something(sentence))


def _tidy(sentence: str) -> str:
    sentence = re.sub(r"\s+(?=[.,;:!?])", "", " ".join(sentence.split()))
    sentence = re.sub(r"([,;:])[,;:]+", r"\1", sentence)
    return sentence.strip(" ,;:")


def _says_something(sentence: str) -> bool:
    shell = _SHELL.split()
    words = (word.casefold() for word in _WORDS.findall(sentence))
    return any(not word.isdecimal() and word not in shell for word in words)


@functools.lru_cache(maxsize=4)
def _pattern(found: frozenset[str]) -> re.Pattern[str]:
    # The longest first: "effusion" would leave the "pleural" of a pleural effusion behind. By first letter,
    # because an alternation is tried from its beginning at every word.
    by_letter: dict[str, list[str]] = {}
    for term in sorted(found, key=lambda term: (-len(term), term)):
        words = [_inflected(word) for word in _HYPHENS.split(term)]
        by_letter.setdefault(term[0], []).append(_HYPHENS.pattern.join(words)[1:])
    inner = "|".join(f"{letter}(?:{'|'.join(rest)})" for letter, rest in by_letter.items())
    return re.compile(rf"(?<![^\W_])(?:{inner})(?![^\W_])", re.IGNORECASE)


#: Endings of the singular or plural, and what matches both.
_ENDINGS = (
    ("ies", "(?:y|ies)"),
    ("y", "(?:y|ies)"),
    ("is", "[ie]s"),
    ("ss", "ss(?:es)?"),
    ("us", "us(?:es)?"),
    ("x", "(?:x|xes|ces)"),
    ("s", "s?"),
)


def _inflected(word: str) -> str:
    for ending, both in _ENDINGS:
        if word.endswith(ending):
            return re.escape(word.removesuffix(ending)) + both
    return re.escape(word) + "(?:e?s)?"
