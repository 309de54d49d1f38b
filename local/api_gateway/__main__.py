"""`python -m local.api_gateway CONFIG`: serve the API."""

from local.api_gateway.server import run
from local.part import main

main("local.api_gateway", run)
