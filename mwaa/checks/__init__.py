"""What can be known before anything is created: each check looks, changes nothing, and says what to do.

A check is a function of a :class:`~mwaa.checks.report.Context` that yields :class:`~mwaa.checks.report.Result`. A
further module of checks gives a dictionary of them and is named in ``CHECKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mwaa.checks import names, permissions, quotas, region, settings, workspace
from mwaa.checks.report import REFUSED, Context, Result, State, unseen, why_unseen

Check = Callable[[Context], Iterator[Result]]

AWS: dict[str, Check] = {
    **settings.CHECKS,
    **region.CHECKS,
    **names.CHECKS,
    **quotas.CHECKS,
    **permissions.CHECKS,
}
CHECKS: dict[str, Check] = {**AWS, **workspace.CHECKS}


def run(context: Context, say: Callable[[str], None], checks: Mapping[str, Check] = CHECKS) -> bool:
    """Look, and print a line for each result; return whether nothing is missing that a deployment would fail on."""
    return tell(context, list(results(context, checks)), say)


def tell(context: Context, found: Sequence[Result], say: Callable[[str], None]) -> bool:
    """Print a line for each result; return whether nothing is missing."""
    settings = context.settings
    say(
        f"{settings.name} in {settings.region}, account {context.deployment.account}: looked at, nothing created"
    )
    for result in found:
        say(f"  {result.state:<8} {result.thing:<40} {result.text}")
    missing = sum(result.state is State.MISSING for result in found)
    could_not = sum(result.state is State.UNSEEN for result in found)
    say(f"{missing} missing, {could_not} could not be looked at, {len(found) - missing - could_not} ok")
    return not missing


def results(context: Context, checks: Mapping[str, Check] = CHECKS) -> Iterator[Result]:
    """Yield what each check finds; one that is not allowed to look says so."""
    for thing, check in checks.items():
        try:
            yield from check(context)
        except REFUSED as error:
            yield unseen(thing, why_unseen(error))
