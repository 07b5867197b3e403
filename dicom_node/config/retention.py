"""Section of the settings for retention: what is purged, after how long. Without any, everything is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from dicom_node.config.sections import Section
from dicom_node.store.retention_limits import RetentionLimits

Days = Annotated[float, Field(gt=0, le=36500)]
Bytes = Annotated[int, Field(gt=0)]


class RetentionSettings(Section):
    """Retention: the rules by which stored files and rows go (docs/operations.md)."""

    films_days: Days | None = Field(
        None, description="days after which films of confirmed studies are purged; absent: never"
    )
    results_days: Days | None = Field(
        None, description="days after which results of confirmed studies are purged; absent: never"
    )
    maps_days: Days | None = Field(
        None, description="days after which heat maps of confirmed studies leave the page; absent: never"
    )
    unconfirmed_days: Days | None = Field(
        None,
        description="days after which all files of studies that ended and that nothing will confirm are "
        "purged: kept here, skipped, failed, rejected or withdrawn; absent: never",
    )
    trials_days: Days | None = Field(
        None,
        description="days after which all files of films that readers tried out are purged; absent: never",
    )
    priors_days: Days | None = Field(
        None, description="days after which films that were fetched as priors are purged; absent: never"
    )
    set_aside_days: Days | None = Field(
        None, description="days after which films that were set aside are purged; absent: never"
    )
    similar_days: Days | None = Field(
        None, description="days after which embeddings of the node's own studies are deleted; absent: never"
    )
    accesses_days: Days | None = Field(
        None, description="days after which rows of the page's access log are deleted; absent: never"
    )
    audit_days: Days | None = Field(
        None,
        description="days after which the rows of purged films and of requests for commitment are deleted, "
        "and only counted; absent: never",
    )
    free_bytes_below: Bytes | None = Field(
        None,
        description="free disk space, in bytes, below which the oldest confirmed files and priors are "
        "purged; above dicom.min_free_bytes, or films are refused first; absent: never",
    )
    free_bytes_until: Bytes | None = Field(
        None, description="free disk space, in bytes, at which that purge ends; absent: free_bytes_below"
    )
    least_days: float = Field(
        1, ge=0, description="days below which nothing is purged for the sake of free space"
    )
    check_seconds: float = Field(60, gt=0, description="seconds between two checks of the rules")
    warn_days: float = Field(
        14, ge=0, description="days before the disk is full from which health and doctor warn"
    )

    @model_validator(mode="after")
    def _check_space(self) -> RetentionSettings:
        if self.free_bytes_until is not None and self.free_bytes_until < (self.free_bytes_below or 2**63):
            raise ValueError("free_bytes_until needs free_bytes_below, and must not be below it")
        return self

    @property
    def limits(self) -> RetentionLimits:
        """Limits of the rules for the purge."""
        days = {
            name: value
            for name in type(self).model_fields
            if name.endswith("_days") and name not in {"least_days", "warn_days"}
            if (value := getattr(self, name)) is not None
        }
        return RetentionLimits(days, self.free_bytes_below, self.free_bytes_until, self.least_days)
