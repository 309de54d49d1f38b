"""Jinja expressions that more than one DAG uses."""

from __future__ import annotations

# A run id holds colons and a plus, which are awkward in object keys and Databricks' parameters.
RUN_KEY = "{{ run_id | replace(':', '-') | replace('+', '-') }}"
