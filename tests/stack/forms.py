"""Airflow's interface in a browser, as far as triggering a DAG goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Locator, Page, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "This field is required"
MOST_MILLISECONDS = 300_000
"""Airflow may take its time while runs go on: each of its actions waits for one database, up to a minute."""
expect.set_options(timeout=MOST_MILLISECONDS)


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of the machine's own Chromium: so large that a whole form is seen, and notifications lie beside it."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    assert found, "Chromium is not installed. On Debian: apt-get install chromium"
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=found[0]) as browser,
    ):
        page = browser.new_page(viewport={"width": 1920, "height": 1800})
        page.set_default_timeout(MOST_MILLISECONDS)
        yield page


def log_in(page: Page, url: str, user: str, password: str) -> None:
    """Log in on the page that Airflow sends a stranger to."""
    page.goto(url)
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Dags")).to_be_visible()


class TriggerForm:
    """The form of one DAG, opened on the page of the DAG or of one of its runs."""

    def __init__(self, page: Page, url: str, dag_id: str) -> None:
        self._page = page
        self._url = f"{url}/dags/{dag_id}"
        self._dialog = page.get_by_role("dialog")
        self.submit = self._dialog.get_by_test_id("trigger-dag-submit")
        self.errors = self._dialog.locator("[data-part=error-text]")
        self.red = self._dialog.locator("[data-invalid], [aria-invalid=true]")
        self.refusal = self._dialog.get_by_text("Invalid input for param")

    def open(self) -> None:
        """Open the form with the defaults."""
        self._page.goto(self._url)
        self._page.get_by_test_id("trigger-dag-button").click()
        self._await_fields()

    def open_again(self, run_id: str) -> None:
        """Open the form with the parameters of a run."""
        self._page.goto(f"{self._url}/runs/{run_id}")
        self._page.get_by_test_id("trigger-dag-button").click()
        self._page.get_by_role("menuitem", name="Trigger again with this config").click()
        self._await_fields()

    def _await_fields(self) -> None:
        # Until they are there, Trigger is enabled in any case.
        self._dialog.locator("[name^=element_]").first.wait_for(state="attached")

    def field(self, name: str) -> Locator:
        """The input that holds a parameter's value."""
        return self._dialog.locator(f"[name=element_{name}]")

    def send(self) -> tuple[int, dict[str, Any]]:
        """Press Trigger; return the status of Airflow's answer and the answer."""
        with self._page.expect_response(
            lambda reply: reply.url.endswith("/dagRuns") and reply.request.method == "POST"
        ) as sent:
            self.submit.click()
        return sent.value.status, sent.value.json()

    def enter(self, name: str, schema: Mapping[str, Any], value: Any) -> None:
        """Enter a value; None empties the field."""
        if "enum" not in schema:
            self.field(name).fill("" if value is None else str(value))
            return
        choice = self._dialog.locator(f"#element_{name}").get_by_role("combobox")
        choice.press("Backspace")
        if value is not None:
            choice.fill(value)
            choice.press("Enter")
