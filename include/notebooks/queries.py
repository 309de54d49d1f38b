# Databricks notebook source
# /// script
# [tool.databricks.environment]
# environment_version = "5"
# ///
# MAGIC %md
# MAGIC # queries
# MAGIC Answers the eight questions from the clean tables and writes ten answer tables and one JSON object of this run.
# MAGIC Before that comes the quality gate: when more is wrong with the clean tables than the widgets `max_…` allow, or
# MAGIC their ledger does not balance, the notebook says what and by how much, and fails. The answer tables and what
# MAGIC was published then stay as they are. What was found is in the table `quality` either way.
# MAGIC
# MAGIC `source` = `batch` asks the tables `pin`, `geo`, `user`; `stream` asks those that the streams fill.

# COMMAND ----------

import json

from pinterest_lake import answers, charts, expectations
from pinterest_lake.lake import Lake, prepare
from pinterest_lake.storage import check_reachable

lake = Lake.from_widgets(dbutils)
dbutils.widgets.dropdown("source", "batch", ["batch", "stream"])
source = answers.source_named(dbutils.widgets.get("source"))
limits = expectations.Thresholds.from_widgets(dbutils)
target = f"{lake.storage}/answers/runs/{lake.run_id}.json"
prepare(spark)
check_reachable(dbutils, lake.storage)

# COMMAND ----------

moment = answers.snapshot(spark, lake, source)
facts = answers.facts(moment)
counts = answers.ledger(facts)
print(json.dumps(counts, indent=2))

# COMMAND ----------

results = expectations.judge(facts, limits)
print(*results, sep="\n")
expectations.store(spark, lake, source, results)
quality = expectations.published(results)
if not all(result.passed for result in results):
    refused = f"{lake.storage}/answers/refused/{lake.run_id}.json"
    dbutils.fs.put(refused, answers.published(lake, counts, quality, None), True)
expectations.check(results)

# COMMAND ----------

found = answers.ask(moment)
changed = answers.write(spark, lake, source, found)
print("changed: " + (", ".join(changed) or "nothing"))

# COMMAND ----------

for answer in found.values():
    print(answer.table)
    display(answer.frame(spark))

# COMMAND ----------

displayHTML("".join(charts.bars(answer.table, answer.rows) for answer in found.values()))

# COMMAND ----------

dbutils.fs.put(target, answers.published(lake, counts, quality, found), True)
print(f"published as {target}")

# COMMAND ----------

dbutils.notebook.exit(json.dumps({"run_id": lake.run_id, "ledger": counts}))
