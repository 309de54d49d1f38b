"""A small Kafka REST proxy: the produce half of Confluent REST v2, for JSON records.

`config` reads the settings, `records` a request's body, `topics` talks to Kafka, `app` to HTTP.
Start it with `python -m msk.rest_proxy CONFIG.json`.
"""
