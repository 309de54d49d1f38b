# Databricks notebook source
# /// script
# [tool.databricks.environment]
# environment_version = "5"
# ///
# MAGIC %md
# MAGIC # configure
# MAGIC Makes the bucket reachable and creates the schema. With a `mount_point` the bucket is mounted there with the
# MAGIC cluster's own credentials (instance profile); without one, `storage` is used as it is (`s3://…`, `/Volumes/…`).
# MAGIC Safe to run again.

# COMMAND ----------

import json

from pinterest_lake.lake import Lake, prepare
from pinterest_lake.storage import check_reachable, mount
from pinterest_lake.tables import create_shared_tables

lake = Lake.from_widgets(dbutils)
dbutils.widgets.text("bucket", "")
dbutils.widgets.text("mount_point", "")
bucket = dbutils.widgets.get("bucket").strip()
mount_point = dbutils.widgets.get("mount_point").strip()
prepare(spark)

# COMMAND ----------

mounted = (
    mount(dbutils, bucket, mount_point) if mount_point else "not mounted: the storage is reached directly"
)
print(mounted)

# COMMAND ----------

check_reachable(dbutils, lake.storage)
print(f"{lake.storage} can be read")

# COMMAND ----------

create_shared_tables(spark, lake)
print(f"schema {lake.namespace} is there")

# COMMAND ----------

dbutils.notebook.exit(
    json.dumps({"run_id": lake.run_id, "storage": lake.storage, "mounted": bool(mount_point)})
)
