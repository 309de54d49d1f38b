"""The laptop's stand-in for a Databricks workspace: its Jobs, Workspace and Secrets APIs over real Spark drivers."""
