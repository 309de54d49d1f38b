#!/usr/bin/env bash
# Every test: the plug-in's in Java, each environment's own, and those on a whole stack of their own.
set -uo pipefail
cd "$(dirname "$0")/.."
local/install.sh test || exit 1
LOGS=build/test-logs
mkdir -p "$LOGS"
failed=()
began=$SECONDS
export PYTHONDONTWRITEBYTECODE=1
unset PIPELINE_HOME PORT_OFFSET

run() {
  local name=$1; shift
  echo; echo "== $name: $*"
  "$@" || failed+=("$name")
}

# The notebooks' tests need nothing of the others, and those wait a lot: they run beside them and are shown after them.
notebooks_command=(.venv/databricks/bin/python -m pytest -q --durations=8 tests/include/notebooks)
# A process has a driver of its own or is a client of Spark Connect, never both.
connect_command=(.venv/databricks/bin/python -m pytest -q --durations=8 tests/include/connect)
{ "${notebooks_command[@]}"; notebooks_status=$?; echo; echo "== Spark Connect: ${connect_command[*]}"
  "${connect_command[@]}" && exit "$notebooks_status"; } > "$LOGS/notebooks.log" 2>&1 &
notebooks_pid=$!
trap 'pkill -P "$notebooks_pid"; kill "$notebooks_pid" 2> /dev/null' EXIT

run "S3 sink (Java)" mvn -B -ntp -q -f msk/s3_sink/pom.xml test
run "airflow environment" .venv/airflow/bin/python -m pytest -q --durations=8 tests \
  --ignore tests/include/notebooks --ignore tests/include/connect --ignore tests/local/databricks --ignore tests/stack
run "Databricks stand-in" .venv/databricks/bin/python -m pytest -q --durations=8 tests/local/databricks

run "whole stack" .venv/airflow/bin/python -m pytest -q --durations=8 tests/stack

echo; echo "== notebooks: ${notebooks_command[*]}"
wait "$notebooks_pid" || failed+=("notebooks")
cat "$LOGS/notebooks.log"

echo
if [ ${#failed[@]} -gt 0 ]; then echo "make test: FAILED in: ${failed[*]}"; exit 1; fi
echo "make test: all passed in $(((SECONDS - began) / 60)) min"
