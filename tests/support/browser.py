"""Chromium, and one reader who visits the pages of a node with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Chromium without a window, until the end of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """Page of one reader, with all its requests and console messages.

    Attributes
    ----------
    asked
        Address of each request, in order.
    complaints
        Console messages and uncaught errors.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.address = address

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)

    def go(self, path: str) -> Page:
        """Open a path of the node."""
        self.page.goto(self.address + path)
        return self.page

    @property
    def elsewhere(self) -> list[str]:
        """Addresses of requests to any host but the node."""
        return [url for url in self.asked if not url.startswith((self.address, "data:", "blob:"))]
