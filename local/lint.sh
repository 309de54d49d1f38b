#!/usr/bin/env bash
# Style, types, and who may import whom. Every check runs, so that one run tells all.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/airflow/bin
status=0
check() { echo "== $1"; shift; "$@" || status=1; }

check "ruff check" $bin/ruff check --quiet .
check "ruff format" $bin/ruff format --quiet --check .
check "mypy" $bin/mypy --no-error-summary plugins local mwaa msk include/emulation include/notebooks/pinterest_lake
check "import rules" env PYTHONPATH=.:plugins:include/notebooks $bin/lint-imports --no-cache
[ $status = 0 ] && echo "lint: all good"
exit $status
