#!/usr/bin/env bash
# Every test: the plug-in's in Java, each environment's own, and those on a whole stack of their own.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
failed=()
run() {
  local name=$1; shift
  echo; echo "== $name: $*"
  "$@" || { status=1; failed+=("$name"); }
}
export PYTHONDONTWRITEBYTECODE=1
unset PIPELINE_HOME PORT_OFFSET

run "S3 sink (Java)" mvn -B -ntp -q -f msk/s3_sink/pom.xml test
run "airflow environment" .venv/airflow/bin/python -m pytest -q tests \
  --ignore tests/include/notebooks --ignore tests/local/databricks --ignore tests/stack
run "databricks environment" .venv/databricks/bin/python -m pytest -q tests/include/notebooks tests/local/databricks
run "whole stack" .venv/airflow/bin/python -m pytest -q tests/stack

echo
if [ $status = 0 ]; then echo "make test: all passed"; else echo "make test: FAILED in: ${failed[*]}"; fi
exit $status
