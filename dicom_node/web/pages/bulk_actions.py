"""Actions on the worklist: those on its selected studies, and the reader's saved filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.web.api.bulk_routes import BulkAction, BulkIn, Outcome, act
from dicom_node.web.api.filter_routes import save_filter
from dicom_node.web.blinding import Hidden
from dicom_node.web.dependencies import Context
from dicom_node.web.pages.study_pages import query_of_form, worklist_page
from dicom_node.web.read_models.worklist_query import address
from dicom_node.web.request_auth import Form, Reader, check_csrf

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_csrf)])

_DONE: Final[Mapping[BulkAction, str]] = {
    BulkAction.RETRY: "will be analysed again",
    BulkAction.RETRACT: "had their results withdrawn",
    BulkAction.TAG: "were tagged",
    BulkAction.UNTAG: "lost the tag",
}


@router.post("/bulk")
def act_on_selected(
    request: Request, context: Context, user: Reader, hidden: Hidden, form: Form
) -> HTMLResponse:
    """Do an action to the selected studies, and show the list again with what was done."""
    query = query_of_form(form, hidden, user.name)
    numbers = [name.removeprefix("study-") for name in form if name.startswith("study-")]
    if not numbers:
        return worklist_page(request, context, user, query, done="No study is selected.")
    try:
        said = BulkIn.model_validate(
            {
                "action": form.get("action", ""),
                "studies": numbers,
                "tag": form.get("word", ""),
                "reason": form.get("reason", ""),
                "quality": "quality" in form,
            }
        )
    except ValueError:
        raise HTTPException(400) from None
    outcomes = act(context, user, hidden, said)
    return worklist_page(request, context, user, query, done=_summary(said.action, outcomes))


def _summary(action: BulkAction, outcomes: Sequence[Outcome]) -> str:
    """Return what was done to how many studies, and what was not and why."""
    done = sum(not each.error for each in outcomes)
    whole = f"{done} of {len(outcomes)} {'study' if len(outcomes) == 1 else 'studies'} {_DONE[action]}."
    refused = Counter(each.error for each in outcomes if each.error)
    return " ".join([whole, *(f"{count} not: {why}" for why, count in refused.most_common(3))])


@router.post("/filters")
def save_on_page(context: Context, user: Reader, hidden: Hidden, form: Form) -> Response:
    """Save the conditions of the shown list under a name, and show it again."""
    query = query_of_form(form, hidden, user.name)
    save_filter(context, user.name, form.get("name", ""), query)
    return RedirectResponse(address(query), 303)


@router.post("/filters/remove")
def remove_on_page(context: Context, user: Reader, form: Form) -> Response:
    """Remove a saved filter, and show the whole list."""
    context.saved_filters.remove(user.name, form.get("name", ""))
    return RedirectResponse("/", 303)
