"""Rules that read a report: which findings it states, doubts or denies, sentence by sentence.

Terms of their own, because the synonyms of the vocabulary are what must go from a text that a model reads,
and are too many to say that something is there ("heart size", "enlarged"). After NegEx (Chapman et al. 2001):
a cue governs the terms behind it up to the end of the sentence or a word that turns its sense.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Statement = Literal["stated", "doubted", "denied"]
"""Statement of a report about a finding, strongest first."""

_RANK: Mapping[Statement, int] = {"stated": 2, "doubted": 1, "denied": 0}

TERMS: Mapping[str, str] = {
    "cardiomegaly": r"cardiomegaly"
    r"|(?:heart|cardiac)(?: silhouette| size| shadow)?(?: \w+){0,3}? (?:enlarge(?:d|ment)|large)"
    r"|(?:enlarge(?:d|ment)(?: of(?: the)?)?|large) (?:heart|cardiac)|borderline heart size"
    r"|heart (?:size )?(?:is )?borderline",
    "pleural_effusion": r"(?<!pericardial )effusions?|pleural fluid|ha?emo(?:pneumo)?thorax",
    "pneumothorax": r"(?:hydro|ha?emo)?pneumothora(?:x|ces)",
    "consolidation": r"consolidations?|consolidative",
    "airspace_disease": r"air ?space disease|infiltrates?|infiltration",
    "atelectasis": r"atelecta(?:sis|ses|tic)|collapse of",
    "edema": r"(?<!tissue )o?edema",
    "pneumonia": r"(?:broncho)?pneumonias?|pneumonitis",
    "emphysema": r"(?<!subcutaneous )emphysema(?:tous)?",
    "hyperinflation": r"hyper-?(?:inflat|expan|aerat|disten)\w*|over(?:inflat|expan)\w*",
    "volume_loss": r"(?:low|decreased|diminished|reduced|small)(?: \w+)? (?:lung |inspiratory )?volumes?"
    r"|lung volumes (?:are|remain) (?:\w+ )?(?:low|decreased|diminished|reduced)|volume loss|loss of volume"
    r"|(?:hypo|under)[- ]?(?:inflat|ventilat|aerat|expan)\w*|(?:poor|shallow|low)(?: \w+)? inspirat\w+",
    "nodule": r"nodules?",
    "mass": r"mass(?:es)?\b",
    "calcified_granuloma": r"calcified(?: \w+){0,6}? granuloma(?:s|ta)?\b|granulomatous calcifications?",
    "fibrosis": r"scar(?:ring|red|s)?\b|fibro(?:sis|tic)|cicatri\w+",
    "increased_lung_markings": r"bronchovascular crowding|crowding of|interstitial prominence"
    r"|(?:prominent|prominence of(?: the)?|increased|coarse\w*|accentuat\w+)(?: \w+){0,3}? markings"
    r"|markings (?:are|is) (?:\w+ )?(?:prominent|increased|coarse\w*|accentuated)",
    "scoliosis": r"(?:dextro|levo|kypho)?scolio(?:sis|tic)"
    r"|(?:dextro ?|levo ?|spine )curvature|(?<!kyphotic )curvature",
    "kyphosis": r"kypho(?:sis|tic|scoliosis)",
    "degenerative_change": r"degenerat\w+|spondylo(?:sis|tic)"
    r"|(?:osteo)?arthri\w+|arthrosis|arthropathy|DISH\b",
    "osteophyte": r"osteophyt\w+|spurring|spurs?\b",
    "fractures": r"fractures?\b|compression deformit(?:y|ies)",
    "hernia": r"hernia\w*",
    "pleural_thickening": r"(?:pleural|apical)(?: \w+){0,2}? thickening"
    r"|thickening of(?: the)?(?: \w+)? pleura",
    "bronchiectasis": r"bronchiecta\w+",
    "bullous_disease": r"bulla\w*|bullous|blebs?",
    "subcutaneous_emphysema": r"subcutaneous (?:emphysema|air|gas)",
    "interstitial_lung_disease": r"interstitial (?:lung )?diseases?",
}
"""Regular expressions of the words that state a finding, by key of the vocabulary."""

_PATTERNS = {key: re.compile(rf"(?<!\w)(?:{term})", re.IGNORECASE) for key, term in TERMS.items()}

_TURN = "|".join(
    (
        r"\b(?:but|however|although|though|except|other than|which|aside from|apart from)\b",
        r"\b(?:there (?:is|are)|the lungs are)\b",
        r"[;:]",
        r",\s*(?:and )?(?:mild|moderate|minimal|stable|unchanged|chronic|old|healed|left|right|bilateral)\b",
    )
)
"""Where a sentence turns: a cue before it does not govern what comes behind."""

_DENIALS = (
    r"\b(?:no|not|nor|neither|never|without|negative for|free of|absence of|absent|lack of|den(?:y|ies)"
    r"|exclud(?:e|es|ed|ing)|resol(?:ved|ution)(?: of)?|clear of|rather than)\b"
)
_NO_DENIALS = "|".join(
    (
        r"\b(?:can)?not(?: be)?(?: \w+)? excluded?\b",
        r"\bno (?:significant |interval |substantial |appreciable )?change\b",
        r"\bnot only\b",
    )
)
_DOUBTS = (
    r"\b(?:may|maybe|might|could|can|possib\w+|probabl\w+|likely|suggest\w*|suspicio\w+|suspect\w*|question\w*"
    r"|versus|vs|differential|(?:can)?not(?: be)?(?: \w+)? excluded?|cannot rule|rule out|concern\w*"
    r"|favou?r\w*|perhaps|potential\w*|correlat\w+ (?:clinically )?for|if clinically|sensitive|equivocal"
    r"|evaluat\w+ for|presum\w+|borderline|upper limits)\b"
)
_DENIED_AFTER = re.compile(
    r"^[^.;]{0,40}?\b(?:(?:is|are|was|were) (?:not|no longer|excluded)|absent|unlikely"
    r"|not (?:seen|identified|evident|present|demonstrated|visualized|appreciated))\b"
    r"|^[^.;]{0,90}?\b(?:has|have) (?:\w+ )?(?:resolved|cleared)\b",
    re.IGNORECASE,
)
_DOUBTED_AFTER = re.compile(
    r"^[^.;]{0,60}?\b(?:(?:is|are) (?:possible|suspected|questionable|considered)|versus|vs\b|suspected"
    r"|(?:can)?not (?:be )?(?:\w+ )?excluded|difficult to (?:\w+ )?exclude|in the differential"
    r"|is a possibility)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])|\s+(?=\d\.\s)")


def read_statements(text: str) -> dict[str, Statement]:
    """Strongest statement of a text about each finding that it names, by key."""
    found: dict[str, Statement] = {}
    for sentence in _SENTENCE.split(text):
        for key, pattern in _PATTERNS.items():
            for term in pattern.finditer(sentence):
                said = _statement(sentence, term)
                if key not in found or _RANK[said] > _RANK[found[key]]:
                    found[key] = said
    return found


def _statement(sentence: str, term: re.Match[str]) -> Statement:
    before, after = sentence[: term.start()], sentence[term.end() :]
    governed = re.split(_TURN, before, flags=re.IGNORECASE)[-1]
    doubted = re.search(_DOUBTS, governed, re.IGNORECASE) or _DOUBTED_AFTER.match(after)
    denying = re.sub(_NO_DENIALS, " ", governed, flags=re.IGNORECASE)
    # "The heart is not enlarged": the denial may stand within the words of the term.
    denied = re.search(_DENIALS, f"{denying} {term[0]}", re.IGNORECASE) or _DENIED_AFTER.match(after)
    if denied:
        return "denied"
    return "doubted" if doubted else "stated"
