#!/bin/sh
# MWAA runs this on every machine before Airflow starts, and gives it five minutes. Everything the pipeline needs is
# in requirements.txt and in configuration options; this only says what a log reader wants to know.
echo "pinterest-pipeline: ${MWAA_AIRFLOW_COMPONENT:-unknown component}, $(python3 --version 2>&1)"
