"""Login to the pages of a node, and their CSRF token."""

from __future__ import annotations

import re

from fastapi.testclient import TestClient

PASSWORD = "correct horse battery"


def csrf_token(text: str) -> str:
    """CSRF token in a page."""
    found = re.search(r'name="csrf" value="(\w+)"', text) or re.search(r'X-CSRF-Token": "(\w+)"', text)
    assert found
    return found[1]


def log_in(client: TestClient, name: str, password: str = PASSWORD, target: str = "/") -> int:
    """Log in; returns the status of the answer, 303 when the password is right."""
    csrf = csrf_token(client.get("/login").text)
    answer = client.post("/login", data={"csrf": csrf, "name": name, "password": password, "next": target})
    return answer.status_code
