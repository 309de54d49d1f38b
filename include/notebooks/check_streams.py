# Databricks notebook source
# /// script
# [tool.databricks.environment]
# environment_version = "5"
# ///
# MAGIC %md
# MAGIC # check_streams
# MAGIC Counts what is in the stream tables and fails when it is not what the ledger of the stream job says: one row a
# MAGIC post, as many as were counted as clean and not replaced, and each record that cannot be read once in
# MAGIC `quarantine`. The job may be at work meanwhile. Nothing is written.

# COMMAND ----------

import json
from dataclasses import asdict

from pinterest_lake import balance
from pinterest_lake.lake import Lake, prepare
from pinterest_lake.progress import read_progress
from pinterest_lake.storage import check_reachable

lake = Lake.from_widgets(dbutils)
prepare(spark)
check_reachable(dbutils, lake.storage)

# COMMAND ----------

found = balance.check(spark, lake, read_progress(dbutils, lake).get("streams", {}))
print(*(f"{name}: {counts}" for name, counts in found.items()), sep="\n")

# COMMAND ----------

dbutils.notebook.exit(json.dumps({name: asdict(counts) for name, counts in found.items()}))
