# Databricks notebook source
# /// script
# [tool.databricks.environment]
# environment_version = "5"
# ///
# MAGIC %md
# MAGIC # maintain
# MAGIC Puts the small files of the batch tables together (`OPTIMIZE`) and deletes those that no version of the last
# MAGIC `retention_hours` needs (`VACUUM`). No row changes. Older versions can then no longer be read. The tables of the
# MAGIC streams put their files together themselves; here, only what no version needs is deleted.

# COMMAND ----------

import json

from pinterest_lake import maintenance
from pinterest_lake.lake import Lake, prepare

lake = Lake.from_widgets(dbutils)
dbutils.widgets.text("retention_hours", str(maintenance.SAFE_HOURS))
hours = maintenance.hours_of(dbutils.widgets.get("retention_hours"))
prepare(spark)

# COMMAND ----------

done = maintenance.maintain(spark, lake, hours)
print(*(f"{name}: {files} files put together" for name, files in done.items()), sep="\n")

# COMMAND ----------

dbutils.notebook.exit(json.dumps({"run_id": lake.run_id, "put_together": done}))
