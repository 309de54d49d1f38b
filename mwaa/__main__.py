"""The commands of the way to AWS: python -m mwaa COMMAND."""

from __future__ import annotations

import argparse
import sys

from mwaa.package import ROOT, PackageError, build


def package(_: argparse.Namespace) -> int:
    target = ROOT / "build" / "mwaa"
    checksums = build(target)
    for name, checksum in checksums.items():
        print(f"{checksum[:16]}  {name}")
    print(f"{len(checksums)} files in {target.relative_to(ROOT)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mwaa", description="The way to MWAA, AWS and Databricks."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("package", help="build the artefacts in build/mwaa/").set_defaults(run=package)
    arguments = parser.parse_args()
    try:
        return int(arguments.run(arguments))
    except PackageError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
