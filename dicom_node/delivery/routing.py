"""Which destinations get a study's results, by the rules of the settings, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydicom.dataset import Dataset

from dicom_node.config.sections import SENDER, AnyDestination, Rule
from dicom_node.imaging import attributes
from dicom_node.results.codes import LATERAL_VIEWS, VIEWS
from dicom_node.results.report import Presence, Report

CONDITIONS = ("calling_ae", "modality", "body_part", "view", "finding")
"""Keys of a rule that must be met, in the order in which they are explained; fields of :class:`Facts` too."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules see of a study; values in the order in which they were met, none twice.

    Attributes
    ----------
    calling_ae
        AE titles that sent its films.
    modality, body_part
        Of its images; those without any contribute nothing.
    view
        ``frontal`` and ``lateral``, as the gate saw them, else as the headers say.
    finding
        Keys of the labels that are present.
    """

    calling_ae: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    finding: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Report | None, calling_aes: Iterable[str]) -> Facts:
        """Return the facts of a study that was read; of one without a readable header only its senders."""
        if report is None:
            return cls(calling_ae=_once(calling_aes))
        headers = [source.header for source in report.sources]
        return cls(
            calling_ae=_once(calling_aes),
            modality=_once(attributes.text(header, "Modality") for header in headers),
            body_part=_once(attributes.text(header, "BodyPartExamined") for header in headers),
            view=_once(source.view or view_of(source.header) for source in report.sources),
            finding=_once(item.key for item in report.findings if item.presence is Presence.PRESENT),
        )


@dataclass(frozen=True, slots=True)
class Match:
    """What one rule made of a study.

    Attributes
    ----------
    reasons
        One sentence a condition.
    """

    rule: Rule
    matched: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a study's results go.

    Attributes
    ----------
    destinations
        Names, in the order of the settings.
    matches
        Every rule, in the order of the settings; none when there are no rules.
    remarks
        What a person should know, such as a sender that is no destination.
    """

    destinations: tuple[str, ...]
    matches: tuple[Match, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules that matched."""
        return tuple(match.rule.name for match in self.matches if match.matched)


def route(facts: Facts, rules: Sequence[Rule], destinations: Sequence[AnyDestination]) -> Route:
    """Return where a study's results go.

    Every rule that matches adds its destinations; the fallback counts when no other matches. Without rules,
    every destination gets everything.
    """
    if not rules:
        return Route(tuple(each.name for each in destinations))
    matches = [_match(rule, facts) for rule in rules if not rule.fallback]
    nobody = not any(match.matched for match in matches)
    why = "no other rule matches" if nobody else "another rule matches"
    by_name = {match.rule.name: match for match in matches}
    ordered = tuple(by_name.get(rule.name) or Match(rule, nobody, (f"fallback: {why}",)) for rule in rules)
    wanted = {name for match in ordered if match.matched for name in match.rule.destinations}
    remarks = []
    if SENDER in wanted:
        for calling_ae in facts.calling_ae:
            found = {each.name for each in destinations if each.ae_title == calling_ae}
            wanted |= found
            if not found:
                remarks.append(f"{SENDER}: no destination has the AE title {calling_ae}")
    return Route(tuple(each.name for each in destinations if each.name in wanted), ordered, tuple(remarks))


def view_of(header: Dataset) -> str:
    """Return ``frontal`` or ``lateral`` as View Position says, or nothing."""
    position = attributes.text(header, "ViewPosition").upper()
    if position in LATERAL_VIEWS or position.endswith("LATERAL"):
        return "lateral"
    return "frontal" if position.partition("_")[0] in VIEWS else ""


def _match(rule: Rule, facts: Facts) -> Match:
    reasons, matched = [], True
    for key in CONDITIONS:
        patterns: tuple[str, ...] = getattr(rule, key)
        if not patterns:
            continue
        values: tuple[str, ...] = getattr(facts, key) or ("",)
        pairs = ((pattern, value) for pattern in patterns for value in values)
        pattern, value = next((pair for pair in pairs if _fits(*pair)), (None, ""))
        if pattern is None:
            matched = False
            shown = ", ".join(value or "nothing" for value in values)
            reasons.append(f"{key}: {shown} is none of {', '.join(map(repr, patterns))}")
        else:
            reasons.append(f"{key}: {value or 'nothing'} is {pattern!r}")
    return Match(rule, matched, tuple(reasons))


def _fits(pattern: str, value: str) -> bool:
    return fnmatchcase(value.casefold(), pattern.casefold())


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
