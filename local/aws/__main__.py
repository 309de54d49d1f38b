"""`python -m local.aws CONFIG`: serve the AWS stand-in."""

from local.aws.server import run
from local.part import main

main("local.aws", run)
