# Databricks notebook source
# MAGIC %md
# MAGIC # queries
# MAGIC Answers the eight questions from the clean tables and writes ten answer tables and one JSON object of this run.
# MAGIC Fails, and publishes nothing, when the ledger does not balance: every record that was read must be a row,
# MAGIC superseded, or in quarantine.
# MAGIC
# MAGIC `source` = `batch` asks the tables `pin`, `geo`, `user`; `stream` asks those that the streams fill.

# COMMAND ----------

import json

from pinterest_lake import answers
from pinterest_lake.lake import Lake, prepare

lake = Lake.from_widgets(dbutils)
dbutils.widgets.dropdown("source", "batch", ["batch", "stream"])
source = answers.source_named(dbutils.widgets.get("source"))
prepare(spark)

# COMMAND ----------

counts = answers.ledger(spark, lake, source)
print(json.dumps(counts, indent=2))

# COMMAND ----------

found = answers.ask(spark, lake, source)
changed = answers.write(spark, lake, found)
print("changed: " + (", ".join(changed) or "nothing"))

# COMMAND ----------

for answer in found.values():
    print(answer.table)
    display(answer.frame(spark))

# COMMAND ----------

target = f"{lake.storage}/answers/runs/{lake.run_id}.json"
dbutils.fs.put(target, answers.published(lake, found, counts), True)
print(f"published as {target}")

# COMMAND ----------

dbutils.notebook.exit(json.dumps({"run_id": lake.run_id, "ledger": counts}))
