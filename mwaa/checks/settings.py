"""Settings that contradict each other, and connections that nothing gives a value."""

from __future__ import annotations

from collections.abc import Iterator

from mwaa.checks.report import Context, Result, missing, ok

THING = "settings"


def contradictions(context: Context) -> Iterator[Result]:
    """Yield what mwaa.toml says in two ways."""
    found = [*_without_a_way_out(context), *_machines(context)]
    yield from found or [ok(THING, "nothing contradicts anything")]


def _without_a_way_out(context: Context) -> Iterator[Result]:
    parts = context.settings.parts
    if (
        "network" not in parts
        or context.parameter("network", "WayOut") != "none"
        or "environment" not in parts
    ):
        return
    if context.parameter("environment", "WebServerAccess") == "PUBLIC_ONLY":
        yield missing(
            THING,
            'WayOut = "none" with WebServerAccess = "PUBLIC_ONLY": workers would not reach the web server',
            '[parameters] WebServerAccess = "PUBLIC_AND_PRIVATE"',
        )
    if not context.settings.offline:
        yield missing(
            THING,
            'WayOut = "none": MWAA would not reach the package index for requirements.txt',
            "offline = true, then: python -m mwaa package --offline",
        )


def _machines(context: Context) -> Iterator[Result]:
    if "proxy" not in context.settings.parts:
        return
    least, most = (int(context.parameter("proxy", name)) for name in ("ProxyMachines", "ProxyMachinesAtMost"))
    if most <= least:
        yield missing(
            THING,
            f"ProxyMachinesAtMost = {most} with ProxyMachines = {least}: an update adds a machine before it ends one",
            f"[parameters] ProxyMachinesAtMost = {least + 1}",
        )


def connections(context: Context) -> Iterator[Result]:
    """Yield each connection that has no value and gets none."""
    lacking = context.deployment.connections_without_a_value()
    for name, variables in lacking.items():
        yield missing(f"connection {name}", "has no value yet, and nothing gives it one", f"set {variables}")
    if not lacking and "secrets" in context.settings.parts:
        yield ok("connections", "each has a value or gets one")


CHECKS = {THING: contradictions, "connections": connections}
