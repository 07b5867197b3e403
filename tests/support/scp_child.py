"""Program of one SCP process: ``python -m tests.support.scp_child FD``, FD its listening socket."""

from __future__ import annotations

import sys

from dicom_node.config.settings import load_settings
from dicom_node.dimse.server.scp import run_scp
from dicom_node.runtime import logs

if __name__ == "__main__":
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    run_scp(settings, int(sys.argv[1]))
