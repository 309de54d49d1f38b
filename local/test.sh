#!/usr/bin/env bash
# Every test: the plug-in's in Java, each environment's own, and those on a whole stack of their own.
set -uo pipefail
cd "$(dirname "$0")/.."
local/install.sh test || exit 1
LOGS=build/test-logs
mkdir -p "$LOGS"
began=$SECONDS
export PYTHONDONTWRITEBYTECODE=1
unset PIPELINE_HOME PORT_OFFSET
airflow=(.venv/airflow/bin/python -m pytest -q --durations=8)
databricks=(.venv/databricks/bin/python -m pytest -q --durations=8)

# run NAME COMMAND...: runs one group of tests of a lane.
run() {
  local name=$1; shift
  echo; echo "== $name: $*"
  "$@" || { echo "== $name: FAILED"; lane_status=1; }
}

# Most tests wait more than they compute, so three lanes go side by side. The first is shown as it goes, the others
# once it has ended. A process has a Spark driver of its own or is a client of Spark Connect, never both.
stack_lane() {
  run "S3 sink (Java)" mvn -B -ntp -q -f msk/s3_sink/pom.xml test
  run "Airflow, emulators, Kafka" "${airflow[@]}" tests --ignore tests/local --ignore tests/mwaa \
    --ignore tests/include/notebooks --ignore tests/include/connect --ignore tests/stack
  run "whole stack" "${airflow[@]}" tests/stack
}
stand_ins_lane() {
  run "laptop and deployment" "${airflow[@]}" tests/local tests/mwaa --ignore tests/local/databricks
  run "Databricks stand-in" "${databricks[@]}" tests/local/databricks
}
notebooks_lane() {
  run "notebooks" "${databricks[@]}" tests/include/notebooks
  run "notebooks over Spark Connect" "${databricks[@]}" tests/include/connect
}

declare -A pids
start() { # LANE: runs it in the background, into its log
  (lane_status=0; "$1_lane"; exit "$lane_status") > "$LOGS/$1.log" 2>&1 &
  pids[$1]=$!
}
# A lane is ended together with the tests it runs, before it can begin the next ones.
trap 'for pid in "${pids[@]}"; do kill "$pid" $(pgrep -P "$pid"); done 2> /dev/null' EXIT
# Else a Ctrl-C would end the tests of one group only, and the next group would begin.
trap 'exit 130' INT
trap 'exit 143' TERM
start stand_ins
start notebooks

lane_status=0
stack_lane
status=$lane_status
for lane in stand_ins notebooks; do
  wait "${pids[$lane]}" || status=1
  cat "$LOGS/$lane.log"
done

echo
if [ "$status" != 0 ]; then echo "make test: FAILED. The names of what has failed stand behind FAILED above."; exit 1; fi
echo "make test: all passed in $(((SECONDS - began) / 60)) min"
