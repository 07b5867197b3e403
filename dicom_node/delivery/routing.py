"""Routing: the destinations of a study's results by the rules of the settings, with reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydicom.dataset import Dataset

from dicom_node.config.destinations import SENDER_ALIAS, AnyDestination, RoutingRule
from dicom_node.imaging import attributes
from dicom_node.results.codes import view_of_position
from dicom_node.results.report import Presence, Report

CONDITIONS = ("calling_ae", "modality", "body_part", "view", "finding")
"""Conditions of a rule, in the order of the explanation; also the fields of :class:`RoutingAttributes`."""


@dataclass(frozen=True, slots=True)
class RoutingAttributes:
    """Attributes of a study that rules can test; values in order of appearance, without repeats.

    Attributes
    ----------
    calling_ae
        AE titles that sent its images.
    modality, body_part
        Modality and Body Part Examined of its images, as far as they have one.
    view
        ``frontal`` and ``lateral``, as the gate model saw them, else by View Position.
    finding
        Keys of the labels that are present.
    """

    calling_ae: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    finding: tuple[str, ...] = ()

    @classmethod
    def of(cls, reports: Sequence[Report], calling_aes: Iterable[str]) -> RoutingAttributes:
        """Return the attributes of an analysed study.

        Parameters
        ----------
        reports
            Reports on it, one a model; empty for a study without a readable header, which has only senders.
        """
        if not reports:
            return cls(calling_ae=_once(calling_aes))
        sources = [source for report in reports for source in report.sources]
        headers = [source.header for source in reports[0].sources]
        return cls(
            calling_ae=_once(calling_aes),
            modality=_once(attributes.text(header, "Modality") for header in headers),
            body_part=_once(attributes.text(header, "BodyPartExamined") for header in headers),
            view=_once(source.view or view_of(source.header) for source in sources),
            finding=_once(
                item.key
                for report in reports
                for item in report.findings
                if item.presence is Presence.PRESENT
            ),
        )


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """Outcome of one rule for a study.

    Attributes
    ----------
    reasons
        One sentence for each condition.
    """

    rule: RoutingRule
    matched: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """Destinations of a study's results, with the reasons.

    Attributes
    ----------
    destinations
        Names of the destinations, in the order of the settings.
    matches
        Outcome of every rule, in the order of the settings; empty when there are no rules.
    remarks
        Sentences for the log, such as about a sender that is no destination.
    """

    destinations: tuple[str, ...]
    matches: tuple[RuleMatch, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules that matched."""
        return tuple(match.rule.name for match in self.matches if match.matched)


def route(
    study: RoutingAttributes, rules: Sequence[RoutingRule], destinations: Sequence[AnyDestination]
) -> RoutingDecision:
    """Return the destinations of a study's results.

    Every rule that matches adds its destinations; the fallback rule matches when no other does. Without
    rules, every destination gets all results.
    """
    if not rules:
        return RoutingDecision(tuple(each.name for each in destinations))
    matches = [_match(rule, study) for rule in rules if not rule.fallback]
    nobody = not any(match.matched for match in matches)
    why = "no other rule matches" if nobody else "another rule matches"
    by_name = {match.rule.name: match for match in matches}
    ordered = tuple(
        by_name.get(rule.name) or RuleMatch(rule, nobody, (f"fallback: {why}",)) for rule in rules
    )
    wanted = {name for match in ordered if match.matched for name in match.rule.destinations}
    remarks = []
    if SENDER_ALIAS in wanted:
        for calling_ae in study.calling_ae:
            found = {each.name for each in destinations if each.ae_title == calling_ae}
            wanted |= found
            if not found:
                remarks.append(f"{SENDER_ALIAS}: no destination has the AE title {calling_ae}")
    return RoutingDecision(
        tuple(each.name for each in destinations if each.name in wanted), ordered, tuple(remarks)
    )


def view_of(header: Dataset) -> str:
    """Return ``frontal`` or ``lateral`` by View Position; empty when it says neither."""
    return view_of_position(attributes.text(header, "ViewPosition"))


def _match(rule: RoutingRule, study: RoutingAttributes) -> RuleMatch:
    reasons, matched = [], True
    for key in CONDITIONS:
        patterns: tuple[str, ...] = getattr(rule, key)
        if not patterns:
            continue
        values: tuple[str, ...] = getattr(study, key) or ("",)
        pairs = ((pattern, value) for pattern in patterns for value in values)
        pattern, value = next((pair for pair in pairs if fits(*pair)), (None, ""))
        if pattern is None:
            matched = False
            shown = ", ".join(value or "nothing" for value in values)
            reasons.append(f"{key}: {shown} is none of {', '.join(map(repr, patterns))}")
        else:
            reasons.append(f"{key}: {value or 'nothing'} is {pattern!r}")
    return RuleMatch(rule, matched, tuple(reasons))


def fits(pattern: str, value: str) -> bool:
    """Return whether a pattern of a rule matches a value: ``*`` and ``?`` are wildcards, case is ignored."""
    return fnmatchcase(value.casefold(), pattern.casefold())


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
