"""TLS contexts by BCP 195 (PS3.15 B.12: RFC 8996 and 9325): version 1.2 or newer, forward secrecy, AEAD."""

from __future__ import annotations

import ssl
from pathlib import Path

from dicom_node.config.audit_trail import AuditTrailSettings
from dicom_node.config.destinations import Destination
from dicom_node.config.private_files import check_private
from dicom_node.config.sections import DicomSettings
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError

# Cipher suites for TLS 1.2; all suites of TLS 1.3 have forward secrecy and AEAD.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def check_certificates(settings: Settings) -> None:
    """Read every certificate and key of the settings, so that a bad one is reported before a port opens.

    Raises
    ------
    ConfigurationError
        For the first one that cannot be used.
    """
    server_context(settings.dicom)
    for destination in settings.destinations:
        client_context(destination)
    if settings.audit_trail.syslog_host is not None:
        syslog_context(settings.audit_trail)


def server_context(settings: DicomSettings) -> ssl.SSLContext | None:
    """Return the TLS context of the SCP; None when it does not use TLS.

    Raises
    ------
    ConfigurationError
        When a file is missing or holds something else, or others can read the key.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    _show(context, settings.tls_certificate, settings.tls_key, "dicom.")
    if settings.tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, settings.tls_ca, "dicom.")
    return context


def client_context(destination: Destination) -> ssl.SSLContext:
    """Return the TLS context for a destination, whose certificate must name its host.

    Raises
    ------
    ConfigurationError
        When a file is missing or holds something else.
    """
    return _client_context(destination, f"destination {destination.name}: ")


def syslog_context(settings: AuditTrailSettings) -> ssl.SSLContext:
    """Return the TLS context for the syslog server, whose certificate must name its host.

    Raises
    ------
    ConfigurationError
        When a file is missing or holds something else.
    """
    return _client_context(settings, "audit_trail.")


def _client_context(settings: Destination | AuditTrailSettings, where: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    if settings.tls_ca is None:
        context.load_default_certs()
    else:
        _trust(context, settings.tls_ca, where)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        _show(context, settings.tls_certificate, settings.tls_key, where)
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)


def _show(context: ssl.SSLContext, certificate: Path, key: Path, where: str) -> None:
    check_private(key, f"{where}tls_key")
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{where}tls_certificate {certificate}, tls_key {key}: {_why(error)}; set them to the PEM files "
            "of a certificate and of its private key"
        ) from None


def _trust(context: ssl.SSLContext, ca: Path, where: str) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{where}tls_ca {ca}: {_why(error)}; set it to a PEM file of certificates"
        ) from None


def _no_password() -> str:
    raise ValueError("the key has a password")


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a PEM file, or certificate and key do not match ({error.reason or 'not PEM'})"
    return getattr(error, "strerror", None) or str(error)
