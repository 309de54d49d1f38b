"""Rules that no linter of others knows; `make lint` runs them. Not here: what ruff, mypy, cfn-lint and checkov know."""
