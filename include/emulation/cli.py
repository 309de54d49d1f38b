"""What the two emulators' commands share: everything but the sender."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from include.emulation.database import SourceError
from include.emulation.emulation import Emulation, Pace, Report, Sender
from include.emulation.parameters import whole_number
from include.emulation.source import Source
from include.emulation.terminal import accept_any_text, printable, printable_lines

if TYPE_CHECKING:
    from pinterest_pipeline.gateway import GatewayClient

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
NAME = re.compile(r"[A-Za-z0-9._-]{1,80}")
"""What topics and streams may be called, and so their prefix."""
INTERRUPTED = 130
MOST_POSTS = 1_000_000_000
LARGEST_SEED = 2**63 - 1
SHOWN = 40
"""Characters of a refused value that are repeated."""

SenderOf = Callable[["GatewayClient", str], Sender]
"""Makes the sender from a client of the API and the prefix of the names."""


def run(sender_of: SenderOf, command: str, description: str, arguments: list[str] | None = None) -> int:
    """One emulator's command; returns its exit status: 0 when every record was acknowledged."""
    accept_any_text()
    parser = _parser(command, description)
    options = parser.parse_args(arguments)
    if not options.source:
        parser.error("say where the posts are: --source or SOURCE_URL")
    if not options.api_url:
        parser.error("say where the API is: --api-url or API_GATEWAY_URL")
    logging.basicConfig(level=logging.WARNING, format=f"{command}: %(message)s", stream=sys.stderr)
    # Told to end by kill or timeout, it accounts for what was sent as it does after Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        client = _client(options.api_url, options.region)
        with Source(options.source) as source:
            emulation = Emulation(
                source,
                sender_of(client, options.prefix),
                posts=options.posts,
                seed=options.seed,
                order=options.order,
                pace=options.pace or options.rate,
                progress=_show_progress if sys.stderr.isatty() else None,
            )
            return _run(emulation, command, as_json=options.json)
    except (SourceError, ValueError) as error:
        print(printable_lines(f"{command}: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted before anything was sent.", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(emulation: Emulation, command: str, *, as_json: bool) -> int:
    """Run; whatever ends it, say what was acknowledged until then."""
    try:
        report = emulation.run()
        return 1 if report.failed else 0
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted; this is what was done until then.", file=sys.stderr)
        return INTERRUPTED
    except SourceError as error:
        said = printable_lines(f"{command}: {error} This is what was done until then.")
        print(f"\n{said}", file=sys.stderr)
        return 1
    finally:
        print(summary(emulation.report), file=sys.stderr if as_json else sys.stdout)
        if as_json:
            print(json.dumps(emulation.report.as_dict()))


def summary(report: Report) -> str:
    """The report as a person reads it."""
    lines = [f"{'table':<8}{'drawn':>10}{'missing':>10}{'sent':>10}{'acknowledged':>14}{'failed':>10}"]
    lines += [
        f"{table:<8}{t.drawn:>10,}{t.missing:>10,}{t.sent:>10,}{t.acknowledged:>14,}{t.failed:>10,}"
        for table, t in report.tables.items()
    ]
    lines += [
        printable(f"  {f['table']} {f['number']} failed: {f['code']}: {f['reason']}")
        for f in report.failures[:10]
    ]
    if report.failed > 10:
        lines.append(f"  … and {report.failed - 10:,} more")
    return "\n".join(lines)


def _client(api_url: str, region: str | None) -> GatewayClient:
    # On MWAA the plugins are on the path already; in a checkout this is where they are.
    if str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
    from pinterest_pipeline.gateway import GatewayClient

    return GatewayClient.from_environment(api_url, region)


def _show_progress(report: Report) -> None:
    end = "\n" if report.drawn == report.posts else ""
    counts = f"{report.acknowledged:,} records acknowledged, {report.failed:,} failed"
    print(f"\r{report.drawn:,} of {report.posts:,} posts, {counts} ", end=end, file=sys.stderr, flush=True)


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=EXAMPLES.format(command=f"include/emulation/{command}.py"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_argument_group("from where, to where")
    where.add_argument(
        "--source",
        metavar="URL",
        default=os.environ.get("SOURCE_URL"),
        help="SQLAlchemy URL of the source tables (or SOURCE_URL, the place for one with a password)",
    )
    where.add_argument(
        "--api-url",
        metavar="URL",
        default=os.environ.get("API_GATEWAY_URL"),
        help="the API's invoke URL with its stage (or API_GATEWAY_URL)",
    )
    where.add_argument(
        "--prefix",
        type=_name,
        default="pinterest",
        help="what topics and streams are named after (pinterest)",
    )
    where.add_argument("--region", help="AWS region of the API (from the AWS configuration, or us-east-1)")
    what = parser.add_argument_group("which posts, how fast")
    what.add_argument("--posts", type=_posts, default=500, metavar="N", help="posts to draw (500)")
    what.add_argument(
        "--seed", type=_seed, default=100, metavar="N", help="of the classic order's generator (100)"
    )
    what.add_argument(
        "--order",
        choices=("classic", "sequential"),
        default="classic",
        help="classic: random numbers of 0..11000, with repeats; sequential: each post once, by number (classic)",
    )
    speed = what.add_mutually_exclusive_group()
    speed.add_argument("--rate", type=_rate, metavar="N", help="posts a second (as fast as it goes)")
    speed.add_argument("--pace", choices=("classic",), help="classic: pause 0 or 1 s before each post")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    return parser


EXAMPLES = """\
AWS credentials come from where AWS tools look: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a role.
Exit status: 0 when every record was acknowledged, 1 when not, 2 for wrong arguments, 130 after
Ctrl-C or SIGTERM.

examples:
  python {command} --source sqlite:////tmp/source.db \\
      --api-url http://127.0.0.1:8081/prod --posts 500
  python {command} --posts 20000 --order sequential --rate 200 --json > report.json
  python {command} --posts 30 --pace classic
"""


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} may hold only letters, digits, '.', '_' and '-'")
    return text


def _posts(text: str) -> int:
    posts = _number(text, whole_number)
    if posts < 1:
        raise argparse.ArgumentTypeError(f"there must be at least 1 post, not {printable(text, SHOWN)}")
    if posts > MOST_POSTS:
        raise argparse.ArgumentTypeError(f"at most {MOST_POSTS:,} posts, not {printable(text, SHOWN)}")
    return posts


def _seed(text: str) -> int:
    seed = _number(text, whole_number)
    if abs(seed) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"the seed is between -{LARGEST_SEED:,} and {LARGEST_SEED:,}, not {printable(text, SHOWN)}"
        )
    return seed


def _rate(text: str) -> Pace:
    rate = _number(text, _decimal)
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(
            f"the rate must be above 0 posts a second, not {printable(text, SHOWN)}"
        )
    return rate


def _decimal(text: str) -> float:
    if not text.isascii() or "_" in text:
        raise ValueError("float() takes these too")
    return float(text)


def _number[N: (int, float)](text: str, kind: Callable[[str], N]) -> N:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{printable(repr(text), SHOWN)} is no number") from None
