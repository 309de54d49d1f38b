"""The pipeline's page in Airflow's interface; everything is in the package, which Airflow does not scan."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.configuration import conf

from pinterest_pipeline.page import Page

PREFIX = "/pinterest"


class PinterestPlugin(AirflowPlugin):
    """Adds the page and its link under Browse."""

    name = "pinterest_pipeline"
    fastapi_apps: list[Any] = [  # noqa: RUF012  Airflow reads plain class attributes
        {"app": Page(), "url_prefix": PREFIX, "name": "Pinterest pipeline"}
    ]
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": "Pinterest pipeline",
            # Airflow may be served below a path.
            "href": f"{urlsplit(conf.get('api', 'base_url', fallback='')).path.rstrip('/')}{PREFIX}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "pinterest-pipeline",
        }
    ]
