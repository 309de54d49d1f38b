# Databricks notebook source
# /// script
# [tool.databricks.environment]
# environment_version = "5"
# ///
# MAGIC %md
# MAGIC # clean_geo
# MAGIC Takes what the sink has put into the bucket since the last run into the table `geo`: one row for each post,
# MAGIC the newest readable record of it. What cannot be read goes to `quarantine`, with its bytes and the reason.
# MAGIC
# MAGIC Safe to run again, at any time: nothing is taken twice. `full_refresh` = `true` rebuilds the table from
# MAGIC everything in the bucket. `retry_quarantined` = `true` reads what is held in quarantine once more, by the rules
# MAGIC of now: what can be read joins the table at its old position. `accept_missing` = `true` takes offsets that no
# MAGIC object holds for lost, so that the quality gate lets them pass from now on.

# COMMAND ----------

import json

from pinterest_lake.batch import take_in
from pinterest_lake.lake import Lake, flag, prepare
from pinterest_lake.ledger import run_entry
from pinterest_lake.storage import lister_for

lake = Lake.from_widgets(dbutils)
full_refresh = flag(dbutils, "full_refresh")
retry_quarantined = flag(dbutils, "retry_quarantined")
accept_missing = flag(dbutils, "accept_missing")
prepare(spark)

# COMMAND ----------

lister = lister_for(spark, dbutils, lake.storage)
run, total = take_in(
    spark,
    lake,
    "geo",
    lister,
    full_refresh=full_refresh,
    retry_quarantined=retry_quarantined,
    accept_missing=accept_missing,
)
print("nothing was new" if run.read == 0 else f"{run.read} records read, {run.clean} clean")
if retry_quarantined:
    print(f"{-min(run.quarantined, 0)} records left quarantine, {total.quarantined} are held")

# COMMAND ----------

display(spark.table(lake.table("geo")).limit(20))

# COMMAND ----------

dbutils.notebook.exit(json.dumps({"run_id": lake.run_id, "run": {"geo": run_entry("geo", run)}}))
