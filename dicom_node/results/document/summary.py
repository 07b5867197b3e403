"""Summary pages of a report, for viewers that show no structured reports."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

from PIL import Image as Picture
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from dicom_node.results import codes
from dicom_node.results.encoding.composite import position
from dicom_node.results.image import overlay
from dicom_node.results.report import (
    Change,
    Finding,
    FloatArray,
    Presence,
    PriorComparison,
    Report,
    Saliency,
    SimilarCases,
)

LIMITS: Final = (
    "A model computed this. No physician has seen it, and it has no clearance as a medical device.",
    "An absent finding is a score below its threshold; it does not exclude disease.",
    (
        "A certainty is calibrated on the films that the model's card names, and may be wrong on others. "
        "A score is not a probability at all."
    ),
    "A heat map shows where the model looked, which need not be where disease is.",
    "Similar cases are similar to the model; they are no evidence of the same disease.",
)

_MARGIN: Final = 16 * mm
_WIDTH: Final = A4[0] - 2 * _MARGIN
_BAND: Final = 10 * mm
_PANEL: Final = 640
"""Longer side of a picture's panels, pixels."""
_TEXT = ParagraphStyle("text", fontName="Helvetica", fontSize=9, leading=12)
_SMALL = ParagraphStyle(
    "small", parent=_TEXT, fontSize=7.5, leading=9.5, textColor=colors.HexColor("#444444")
)
_HEAD = ParagraphStyle(
    "head", parent=_TEXT, fontName="Helvetica-Bold", fontSize=11, leading=15, spaceBefore=8
)
_TITLE = ParagraphStyle("title", parent=_HEAD, fontSize=15, leading=20)
_AMBER, _DARK, _LINE = colors.HexColor("#ffc400"), colors.HexColor("#101010"), colors.HexColor("#bbbbbb")


def draw_pages(report: Report, pixels: Mapping[str, FloatArray]) -> bytes:
    """Draw a report as a PDF: film and heat map, findings, similar cases, identities, limits.

    Nothing that identifies a patient is drawn.

    Parameters
    ----------
    pixels
        SOP Instance UID -> film of shape (Rows, Columns), float32 in [0, 1], lungs dark; films that are
        missing here are not shown.

    Returns
    -------
    bytes
        The same report gives the same bytes.
    """
    stream = io.BytesIO()
    document = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_BAND + 6 * mm,
        bottomMargin=_MARGIN,
        title=f"Chest radiograph, answers of a model - {codes.RESEARCH_USE_ONLY}",
        author="dicom-node",
        subject=codes.INTENDED_USE,
        invariant=1,
    )
    document.build(list(_story(report, pixels)), onFirstPage=_frame, onLaterPages=_frame)
    return stream.getvalue()


def _frame(canvas: Canvas, document: SimpleDocTemplate) -> None:
    """Draw what every page carries."""
    width, height = A4
    canvas.setFillColor(_DARK)
    canvas.rect(0, height - _BAND, width, _BAND, stroke=0, fill=1)
    canvas.setFillColor(_AMBER)
    canvas.setFont("Helvetica-Bold", 11)
    canvas.drawString(_MARGIN, height - 0.65 * _BAND, f"{codes.RESEARCH_USE_ONLY} - not for diagnosis")
    canvas.setFillColor(_DARK)
    canvas.setFont("Helvetica", 7.5)
    canvas.drawRightString(width - _MARGIN, _MARGIN / 2, f"page {document.page}")


def _story(report: Report, pixels: Mapping[str, FloatArray]) -> Iterator[Flowable]:
    yield _paragraph("Chest radiograph, answers of a model", _TITLE)
    yield _paragraph(f"revision {report.revision}, {report.created:%Y-%m-%d %H:%M} UTC", _SMALL)
    if report.refusal is None:
        yield from _pictures(report, pixels)
        yield from _findings(report)
        if report.prior is not None:
            yield Spacer(1, 2 * mm)
            yield _paragraph(_comparison(report.prior, report.findings))
    else:
        reason = codes.REFUSALS[report.refusal.reason]
        yield _paragraph("Not analysed", _HEAD)
        yield _paragraph(f"{reason.code.meaning}: {report.refusal.text or reason.sentence}")
    yield from _left_out(report)
    if report.similar is not None:
        yield from _similar(report.similar)
    yield from _identity(report)
    yield _paragraph("Limits", _HEAD)
    for sentence in LIMITS:
        yield _paragraph(f"- {sentence}", _SMALL)


def _paragraph(text: str, style: ParagraphStyle = _TEXT) -> Paragraph:
    # The standard fonts of PDF know the letters of Windows-1252.
    return Paragraph(escape(text.encode("cp1252", "replace").decode("cp1252")), style)


def _pictures(report: Report, pixels: Mapping[str, FloatArray]) -> Iterator[Flowable]:
    """The heat map of the most certain finding, or the first film alone."""
    shown = _best(report, pixels)
    if shown is not None:
        finding, saliency = shown
        film = pixels[saliency.sop_instance_uid]
        picture = overlay.draw(
            film,
            saliency.values,
            banner=f"{codes.RESEARCH_USE_ONLY} · {finding.name} · {_certainty(finding)}",
            caption=f"{saliency.method}: where the model looked, not where disease is.",
            longer_side=_PANEL,
        )
    else:
        first = next((pixels[uid] for uid in _uids(report) if uid in pixels), None)
        if first is None:
            return
        picture = overlay.draw_film(first, longer_side=_PANEL)
    stream = io.BytesIO()
    Picture.fromarray(picture).save(stream, "PNG")
    stream.seek(0)
    rows, columns = picture.shape[:2]
    scale = min(_WIDTH / columns, 110 * mm / rows)
    yield Spacer(1, 2 * mm)
    yield Image(stream, width=columns * scale, height=rows * scale)


def _uids(report: Report) -> list[str]:
    return [source.sop_instance_uid for source in report.sources if source.analysed]


def _best(report: Report, pixels: Mapping[str, FloatArray]) -> tuple[Finding, Saliency] | None:
    found = [
        (finding, saliency)
        for finding in report.findings
        for saliency in finding.saliency
        if saliency.sop_instance_uid in pixels
    ]
    return max(found, key=lambda shown: _number(shown[0]), default=None)


def _number(finding: Finding) -> float:
    return finding.score if finding.certainty is None else finding.certainty


def _certainty(finding: Finding) -> str:
    if finding.certainty is None:
        return f"score {finding.score:.2f}, not calibrated"
    return f"certainty {100 * finding.certainty:.0f} %"


_NORMALITIES: Final = {
    Presence.PRESENT: "The model calls the study normal.",
    Presence.ABSENT: "The model calls the study abnormal.",
    Presence.UNDETERMINED: "The model does not say whether the study is normal.",
}


def _findings(report: Report) -> Iterator[Flowable]:
    yield _paragraph("Findings", _HEAD)
    yield _paragraph(_NORMALITIES[report.normality])
    yield Spacer(1, 2 * mm)
    ranked = sorted(
        report.findings, key=lambda entry: (entry.presence is not Presence.PRESENT, -_number(entry))
    )
    rows = [["finding", "certainty", "95 % interval", "threshold", "presence"]]
    for finding in ranked:
        unit = "score" if finding.certainty is None else "percent"
        rows.append(
            [
                finding.name,
                _amount(_number(finding), unit),
                _interval(finding.interval),
                _amount(finding.threshold, unit),
                finding.presence.value,
            ]
        )
    present = sum(finding.presence is Presence.PRESENT for finding in ranked)
    yield _table(rows, (0.38, 0.16, 0.18, 0.14, 0.14), bold=present)


_CHANGES: Final = {
    Change.NEW: "new",
    Change.GONE: "no longer present",
    Change.UNCHANGED: "not significantly changed",
}


def _comparison(prior: PriorComparison, findings: Sequence[Finding]) -> str:
    """One line; without the date of the prior, which could tell who the patient is."""
    if prior.reason:
        return f"Prior: not available: {prior.reason}."
    changed: dict[Change, list[str]] = {}
    for finding in findings:
        if finding.earlier is not None:
            changed.setdefault(finding.earlier.change, []).append(finding.name)
    said = [f"{word}: {', '.join(changed[change])}" for change, word in _CHANGES.items() if change in changed]
    return f"Compared with the previous film: {'; '.join(said) or 'no finding in either'}."


def _amount(share: float, unit: str) -> str:
    return f"{100 * share:.1f} %" if unit == "percent" else f"{share:.3f} (score)"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else "{:.1f} to {:.1f} %".format(*(100 * end for end in interval))


def _similar(similar: SimilarCases) -> Iterator[Flowable]:
    yield _paragraph("Similar reference cases", _HEAD)
    verdict = "they disagree with the model" if similar.disagrees else "they do not disagree with the model"
    yield _paragraph(f"Of {similar.index_name}: agreement {similar.agreement:.2f}, {verdict}.")
    yield Spacer(1, 2 * mm)
    rows = [["rank", "case", "cosine similarity", "its findings"]]
    rows += [
        [
            str(case.rank),
            case.identifier,
            f"{case.similarity:.3f}",
            ", ".join(name for name, _ in case.labels) or "none",
        ]
        for case in similar.cases
    ]
    yield _table(rows, (0.08, 0.24, 0.18, 0.5))


def _left_out(report: Report) -> Iterator[Flowable]:
    excluded = [source for source in report.sources if not source.analysed]
    if excluded:
        yield _paragraph("Images that were not analysed", _HEAD)
    for source in excluded:
        yield _paragraph(f"{position(source)}: {source.exclusion}", _SMALL)
    remarked = [source for source in report.sources if source.remarks]
    if remarked:
        yield _paragraph("How images were read", _HEAD)
    for source in remarked:
        for remark in source.remarks:
            yield _paragraph(f"{position(source)}: {remark}", _SMALL)


def _identity(report: Report) -> Iterator[Flowable]:
    algorithms = [("Model", report.algorithm)]
    if report.similar is not None:
        algorithms.append(("Encoder of the similar cases", report.similar.algorithm))
    for title, algorithm in algorithms:
        if algorithm is None:
            continue
        yield _paragraph(title, _HEAD)
        yield _paragraph(f"{algorithm.name} {algorithm.version}")
        for parameter in algorithm.parameters:
            yield _paragraph(parameter, _SMALL)
    if report.similar is not None:
        yield _paragraph(f"index_sha256={report.similar.index_digest}", _SMALL)


def _table(rows: Sequence[Sequence[str]], shares: Sequence[float], bold: int = 0) -> Table:
    """Table whose first row is repeated on each page, with so many bold rows below it."""
    strong = ParagraphStyle("strong", parent=_TEXT, fontName="Helvetica-Bold")
    cells: list[list[Any]] = [
        [_paragraph(text, strong if number <= bold else _TEXT) for text in row]
        for number, row in enumerate(rows)
    ]
    table = Table(cells, colWidths=[share * _WIDTH for share in shares], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, 0), 0.8, _DARK),
                ("LINEBELOW", (0, 1), (-1, -1), 0.25, _LINE),
                ("TOPPADDING", (0, 0), (-1, -1), 1),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
        )
    )
    return table
