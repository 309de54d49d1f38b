"""What of requirements.txt is not installed in this component of Airflow."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

REQUIREMENTS = (
    "aiobotocore",
    "apache-airflow-providers-databricks",
    "aws-msk-iam-sasl-signer-python",
    "kafka-python",
    "PyMySQL",
)
"""The packages of requirements.txt, which does not come along in plugins.zip."""


def missing_requirements() -> list[str]:
    """Return the names of packages that are missing here; on MWAA a private web server has none of them."""
    return [name for name in REQUIREMENTS if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def missing_note() -> list[str]:
    """Return what the page says first: nothing where all is installed."""
    missing = missing_requirements()
    if not missing:
        return []
    return [
        f"Not installed in this web server: {', '.join(missing)}. The answers are shown all the same; links to "
        "Databricks runs and the forms of some connections are not. A private web server of MWAA installs "
        "requirements.txt only from wheels: python -m mwaa package --offline."
    ]
