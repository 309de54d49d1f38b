# Databricks notebook source
# /// script
# [tool.databricks.environment]
# environment_version = "5"
# ///
# MAGIC %md
# MAGIC # kinesis_streams
# MAGIC Takes the three streams into `{prefix}_pin_table`, `{prefix}_geo_table` and `{prefix}_user_table`: the cleaning
# MAGIC of the batch, one row for each post, the newest readable record of it; the rest goes to `quarantine`.
# MAGIC
# MAGIC Each record is taken once, whatever happens: a restart, a checkpoint that was deleted, records that come again.
# MAGIC What has been taken so far stands in `{storage}/streams/{prefix}/{schema}/progress.json` (`{catalog}.{schema}`
# MAGIC where there is a catalog), written after each micro-batch, with the records, bytes, seconds and latency of the
# MAGIC last ones.
# MAGIC
# MAGIC `trigger` = `1 second` (or another interval) runs until the object `stop_path` appears; `available-now` takes
# MAGIC what is there and ends. Only one such job may run for a schema: one that starts takes over, and the other fails.
# MAGIC
# MAGIC `rebuild` = `true` makes tables and ledger agree again, after rows were changed by hand or a table was restored:
# MAGIC a post keeps its newest row, what the streams still hold is written again where it is missing, and everything is
# MAGIC counted anew. It ends by itself; meanwhile no other run of the job goes on.

# COMMAND ----------

import json

from pinterest_lake.lake import Lake, flag, folder, prepare
from pinterest_lake.storage import check_reachable, mount
from pinterest_lake.streaming import Kinesis, StreamJob

lake = Lake.from_widgets(dbutils)
kinesis = Kinesis.from_widgets(dbutils)
checkpoint_dir = folder(dbutils, "checkpoint_dir") or f"{lake.storage}/streams/{lake.prefix}/checkpoints"
stop_path = folder(dbutils, "stop_path")
rebuild = flag(dbutils, "rebuild")
dbutils.widgets.text("trigger", "1 second")
dbutils.widgets.text("bucket", "")
dbutils.widgets.text("mount_point", "")
mount_point = dbutils.widgets.get("mount_point").strip()
prepare(spark)

# COMMAND ----------

# as configure does it: the streams may well be the first to run
if mount_point:
    print(mount(dbutils, dbutils.widgets.get("bucket").strip(), mount_point))
check_reachable(dbutils, lake.storage)

# COMMAND ----------

job = StreamJob(spark, dbutils, lake)
job.look_back(kinesis)
if rebuild:
    progress = job.rebuild(kinesis, checkpoint_dir)
else:
    progress = job.run(
        kinesis,
        checkpoint_dir=checkpoint_dir,
        trigger=dbutils.widgets.get("trigger").strip(),
        stop_path=stop_path,
    )

# COMMAND ----------

dbutils.notebook.exit(json.dumps({"run_id": lake.run_id, "streams": progress}))
