"""Chromium, and one reader who visits the pages of a node with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

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


def seconds_until(page: Page, act: Callable[[], object], event: str, condition: str) -> float:
    """Seconds in the page from the first event of an action until a picture in which a condition holds.

    Parameters
    ----------
    act
        Does what makes the event, such as a click.
    event
        Type of the event, such as ``click``.
    condition
        Expression of JavaScript that is truthy once it is done.
    """
    page.evaluate(
        f"""() => {{
            window.taken = new Promise((resolve) => addEventListener("{event}", () => {{
                const began = performance.now();
                const look = () => {condition}
                    ? resolve(performance.now() - began) : requestAnimationFrame(look);
                requestAnimationFrame(look);
            }}, {{ once: true, capture: true }}));
        }}"""
    )
    act()
    return float(page.evaluate("window.taken")) / 1000


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
