from __future__ import annotations

from pinterest_plugin import PinterestPlugin


def test_the_link_leads_to_the_page() -> None:
    (app,) = PinterestPlugin.fastapi_apps
    (view,) = PinterestPlugin.external_views
    assert view["href"] == app["url_prefix"] + "/"
    assert view["destination"] == "nav"
