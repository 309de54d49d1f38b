"""``python -m local.databricks CONFIG``: serve the workspace."""

from local.databricks.server import run
from local.part import main

main("local.databricks", run)
