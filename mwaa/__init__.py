"""The way to AWS and Databricks: templates, artefacts, deployment."""
