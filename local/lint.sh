#!/usr/bin/env bash
# Style, types, who may import whom, and the templates. Every check runs, so that one run tells all.
set -uo pipefail
cd "$(dirname "$0")/.."
local/install.sh lint || exit 1
bin=.venv/airflow/bin
status=0
check() { echo "== $1"; shift; "$@" || status=1; }

check "ruff check" $bin/ruff check --quiet .
check "ruff format" $bin/ruff format --quiet --check .
check "mypy" $bin/mypy --no-error-summary plugins local mwaa msk include/emulation include/notebooks/pinterest_lake
check "import rules" env PYTHONPATH=.:plugins:include/notebooks $bin/lint-imports --no-cache
mapfile -t templates < <(grep -l '^AWSTemplateFormatVersion' mwaa/cloudformation/*.yaml)
check "cfn-lint" env PYTHONPATH=. $bin/cfn-lint --append-rules local/lint/cloudformation -- "${templates[@]}"
check "brokers" $bin/python -m local.lint.brokers plugins mwaa msk
check "clusters" $bin/python -m local.lint.clusters dags plugins include mwaa msk local bench
# It would ask its maker's site for documents about its checks; what it says stands in the templates.
check "checkov" .venv/checkov/bin/checkov --directory mwaa/cloudformation --framework cloudformation \
  --compact --quiet --skip-download
[ $status = 0 ] && echo "lint: all good"
exit $status
