"""Settings of the audit trail: what it says of patients, its files, and the syslog server with a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dicom_node.config.addresses import Host
from dicom_node.config.sections import Port, Section


class AuditTrailSettings(Section):
    """Audit trail: what it says of patients, its files, and the syslog server with a copy."""

    patient: Literal["pseudonym", "id"] = Field(
        "pseudonym", description="name patients by the page's pseudonym or by Patient ID; never by name"
    )
    file_bytes: int = Field(
        64 * 2**20,
        ge=2**16,
        description="size from which the trail goes on in a new file, in bytes; a new day begins one too",
    )
    syslog_host: Host | None = Field(
        None, description="name or address of a syslog server that gets every entry by TLS; absent: none"
    )
    syslog_port: Port = Field(6514, description="TCP port of the syslog server")
    tls_ca: Path | None = Field(
        None, description="PEM file of the syslog server's authorities; absent: those of the system"
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate that the node presents to the syslog server"
    )
    tls_key: Path | None = Field(None, description="PEM file of the private key of tls_certificate")

    @model_validator(mode="after")
    def _check(self) -> AuditTrailSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("set tls_certificate and tls_key together")
        if self.syslog_host is None and (self.tls_ca or self.tls_certificate):
            raise ValueError("tls_ca and tls_certificate have no effect without syslog_host")
        return self
