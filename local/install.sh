#!/usr/bin/env bash
# Installs what the project needs and lacks: JDK and Maven (apt, as root), uv, the two Python environments,
# the jars of Kafka and Spark, and the S3 sink plug-in; with the argument test also Chromium (apt), with lint also
# checkov. Running it again does only what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
LOGS=build/install-logs
mkdir -p .venv .jars "$LOGS"

say() { printf '%s\n' "$*" >&2; }
fail() { say "make: $*"; exit 1; }

# Two installs at once (a user's and a test's, say) would write over each other.
exec 9> .venv/.lock
if ! flock -n 9; then
  say "Another install is running in this folder; waiting for it."
  flock 9
fi

java_major() { { java -version 2>&1 || true; } | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

apt_packages=()
java_found=$(java_major)
if [ "${java_found:-0}" -lt 17 ] || ! command -v javac > /dev/null; then apt_packages+=(openjdk-17-jdk-headless); fi
command -v mvn > /dev/null || apt_packages+=(maven)
# Only make test needs it: it opens Airflow's interface.
if [ "${1:-}" = test ] && ! command -v chromium chromium-browser google-chrome > /dev/null; then
  if grep -qs '^ID=ubuntu' /etc/os-release; then
    fail "missing: Chromium, in which the tests open Airflow's interface. Ubuntu has it as a snap only: sudo snap install chromium"
  fi
  apt_packages+=(chromium)
fi
if [ ${#apt_packages[@]} -gt 0 ]; then
  if command -v apt-get > /dev/null && [ "$(id -u)" = 0 ]; then
    say "Missing: ${apt_packages[*]}. Installing with apt-get, as root."
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${apt_packages[@]}"; } \
      > "$LOGS/apt.log" 2>&1 || fail "apt-get failed: see $LOGS/apt.log"
  else
    fail "missing: ${apt_packages[*]}. On Debian or Ubuntu: sudo apt-get install ${apt_packages[*]}; elsewhere: JDK 17 or newer from https://adoptium.net, Maven from https://maven.apache.org, and for make test Chromium from https://www.chromium.org or Google Chrome"
  fi
fi

find_uv() {
  if command -v uv > /dev/null; then UV=$(command -v uv); return; fi
  UV=.venv/tools/bin/uv
  [ -x "$UV" ] && return
  say "Installing uv $UV_VERSION into .venv/tools"
  command -v python3 > /dev/null || fail "missing: python3 (3.12). On Debian or Ubuntu: sudo apt-get install python3"
  { python3 -m venv .venv/tools && .venv/tools/bin/python -m pip install -q "uv==$UV_VERSION"; } > "$LOGS/uv.log" 2>&1 \
    || fail "uv could not be installed: see $LOGS/uv.log. On Debian or Ubuntu, python3 -m venv needs: sudo apt-get install python3-venv"
}

stamp_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

# step NAME STAMP-FILE INPUT... -- COMMAND...: runs the command unless the stamp says that these inputs are installed.
step() {
  local name=$1 stamp=$2 inputs=() want; shift 2
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done; shift
  want=$(stamp_of "${inputs[@]}")
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then return; fi
  local start=$SECONDS
  say "  installing  $name"
  if ! "$@" > "$LOGS/$name.log" 2>&1; then tail -n 15 "$LOGS/$name.log" >&2; fail "installing $name failed: see $LOGS/$name.log"; fi
  printf '%s' "$want" > "$stamp"
  say "  installed   $name in $((SECONDS - start)) s"
}

environment() {
  rm -rf ".venv/$1"
  "$UV" venv --python 3.12 ".venv/$1" && "$UV" pip install --python ".venv/$1/bin/python" --compile-bytecode --no-deps -r "local/requirements/$1.txt"
}

jars() { # FOLDER-OF-POM FOLDER: the dependencies, and the jar of the project's own classes if it has some
  rm -rf "$2.new" && mvn -B -ntp -f "$1/pom.xml" package dependency:copy-dependencies -DoutputDirectory="$PWD/$2.new" || return
  if [ -d "$1/java" ]; then cp "$1"/target/*.jar "$2.new" || return; fi
  rm -rf "$2" && mv "$2.new" "$2"
}

sink() {
  mvn -B -ntp -f msk/s3_sink/pom.xml -DskipTests package || return
  rm -rf .jars/connect-plugins && mkdir -p .jars/connect-plugins && cp -r msk/s3_sink/target/plugin .jars/connect-plugins/s3_sink
}

find_uv
# Python's packages come over the network while Maven works: the two sides do not wait for each other.
(
  step airflow .venv/airflow.stamp local/requirements/airflow.txt -- environment airflow
  step databricks .venv/databricks.stamp local/requirements/databricks.txt -- environment databricks
  # Only make lint needs it.
  if [ "${1:-}" = lint ]; then step checkov .venv/checkov.stamp local/requirements/checkov.txt -- environment checkov; fi
) &
python_side=$!
java_status=0
(
  step kafka .jars/kafka.stamp local/kafka/pom.xml -- jars local/kafka .jars/kafka
  step spark .jars/spark.stamp local/databricks/pom.xml local/databricks/java/pinterest/databricks/*.java -- jars local/databricks .jars/spark
  # shellcheck disable=SC2046
  step s3_sink .jars/s3_sink.stamp msk/s3_sink/pom.xml $(find msk/s3_sink/src/main -type f | sort) -- sink
) || java_status=$?
wait "$python_side"
exit "$java_status"
