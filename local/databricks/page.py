"""The pages of the workspace: the last runs, and each run's state, parameters, printed text and error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b3139 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem } h3 { font-size: 0.9rem; margin-bottom: 0 }
pre { background: #f6f7f9; padding: 0.8rem; overflow-x: auto; font-size: 13px; line-height: 1.35 }
pre.error { background: #fdf0ef } .SUCCESS { color: #00875c } .FAILED, .TIMEDOUT { color: #c82d4c }
.CANCELED { color: #8a6d00 }
"""


def render_list(runs: Iterable[dict[str, Any]]) -> str:
    """The HTML for runs as the API gives them, each a link to its page."""
    rows = [
        f"<h2><a href='/jobs/{run['job_id']}/runs/{run['run_id']}'>{_name(run['run_name'])}</a> "
        f"<small>run {run['run_id']}</small></h2>{_state(run)}"
        for run in runs
    ]
    return "\n".join([
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Runs</title><style>{_STYLE}</style>",
        "<h1>Runs</h1>",
        *(rows or ["<p>Nothing has run yet.</p>"]),
    ])


def render(run: dict[str, Any], tasks: Iterable[tuple[dict[str, Any], dict[str, Any], str]]) -> str:
    """The HTML for a run as the API gives it, and for each task its output and its printed text."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>Run {run['run_id']}: {escape(run['run_name'])}</title><style>{_STYLE}</style>",
        f"<h1>{_name(run['run_name'])} <small>run {run['run_id']} of job {run['job_id']}</small></h1>",
        _state(run),
    ]
    for task, output, printed in tasks:
        parts.append(
            f"<h2>{_name(task['task_key'])} <small>{_name(task['notebook_task']['notebook_path'])}</small></h2>"
        )
        parts.append(_state(task))
        parameters = {**(task["notebook_task"].get("base_parameters") or {})}
        parts.append(
            _block("Parameters", json.dumps(parameters, indent=1, ensure_ascii=False) if parameters else "")
        )
        parts.append(_block("Error", output.get("error_trace") or output.get("error", ""), "error"))
        parts.append(_block("Output", printed))
        parts.append(_block("Exit value", output.get("notebook_output", {}).get("result", "")))
    return "\n".join(parts)


def _state(document: dict[str, Any]) -> str:
    current = document["state"]
    result = current.get("result_state", "")
    shown = " ".join(part for part in (current["life_cycle_state"], result) if part)
    times = f"started {_time(document['start_time'])}"
    if "end_time" in document:
        times += f", took {document['run_duration'] / 1000:.1f} s"
    return f"<p><b class='{result}'>{shown}</b> {_name(current['state_message'])}<br>{times}</p>"


def _name(text: str) -> str:
    """Text among ours; whatever its direction, ours keeps its own."""
    return f"<bdi>{escape(text)}</bdi>"


def _block(title: str, text: str, kind: str = "") -> str:
    return f"<h3>{title}</h3><pre class='{kind}'>{escape(text)}</pre>" if text else ""


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
