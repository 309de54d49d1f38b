"""The pipeline's page: the last published answers and the ledger of their run."""

from pinterest_pipeline.page.app import create_app

__all__ = ["create_app"]
