"""REST API of saved filters: named conditions of the worklist, of each reader their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path

from dicom_node.web.api.note_routes import sentence
from dicom_node.web.api.parameters import WorklistParameters
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.read_models.worklist_query import WorklistQuery, address
from dicom_node.web.request_auth import Reader, check_csrf, require_reader
from dicom_node.web.saved_filters import NAME_LENGTH

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

FilterName = Annotated[str, Path(min_length=1, max_length=NAME_LENGTH, description="name of the filter")]


@router.get("/filters", responses=error_responses())
def filters(context: Context, user: Reader) -> Mapping[str, str]:
    """Return your filters: the address of the worklist by name."""
    return {name: f"/?{conditions}" for name, conditions in context.saved_filters.of(user.name).items()}


@router.put("/filters/{name}", responses=error_responses(422))
def save(context: Context, user: Reader, name: FilterName, query: WorklistParameters) -> Mapping[str, str]:
    """Save the conditions of this request under a name; it replaces your earlier filter of that name."""
    save_filter(context, user.name, name, query)
    return filters(context, user)


@router.delete("/filters/{name}", responses=error_responses(404))
def remove(context: Context, user: Reader, name: FilterName) -> Mapping[str, str]:
    """Remove one of your filters."""
    if not context.saved_filters.remove(user.name, name):
        raise HTTPException(404)
    return filters(context, user)


def save_filter(context: WebContext, reader: str, name: str, query: WorklistQuery) -> None:
    """Save the conditions of a query, without the words of a search.

    Raises
    ------
    HTTPException
        422 when the name is not valid, or the reader has too many filters.
    """
    try:
        context.saved_filters.save(reader, name, address(query).removeprefix("/").removeprefix("?"))
    except ValueError as error:
        raise HTTPException(422, sentence(error)) from None
