"""ministack and its front in one process, served by hypercorn.

hypercorn with ministack's own shim is what ministack is tested on: `Expect: 100-continue` and streamed uploads are
answered in the form every AWS SDK takes.
"""

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from local.aws.front import Front
from local.aws.kafka_connect import KafkaConnectRoutes, KafkaConnectSettings
from local.part import listen, read_config
from local.sigv4 import Verifier

LOG = logging.getLogger("local.aws")

# What the pipeline and its CloudFormation templates use. ministack knows more; what is not named here stays shut.
SERVICES = (
    "s3",
    "kinesis",
    "secretsmanager",
    "sts",
    "iam",
    "apigateway",
    "cloudformation",
    "logs",
    "monitoring",
    "kms",
    "sns",
    "ssm",
    "ec2",
    "elasticloadbalancing",
    "autoscaling",
    "kafka",
)


@dataclass(frozen=True)
class Settings:
    """The config file of `python -m local.aws`."""

    host: str
    port: int
    access_key_id: str
    secret_access_key: str
    region: str
    data_dir: str
    kafkaconnect: KafkaConnectSettings


def run(config_path: str) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError when it cannot start."""
    settings = read_config(config_path, Settings)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    LOG.setLevel(logging.INFO)  # ministack's own INFO is a line for every call
    sock = listen(settings.host, settings.port)
    os.umask(0o077)  # secrets are among what ministack writes
    _prepare_ministack(settings)
    asyncio.run(_serve(settings, sock.detach()))


def _prepare_ministack(settings: Settings) -> None:
    """Set what ministack reads from the environment when it is imported.

    Objects and their metadata are plain files. The rest of the state lies in the state folder: streams.py and
    durable.py write it as it changes, and it is read at the next start.
    """
    data = Path(settings.data_dir)
    for folder in (data, data / "s3", data / "state"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ |= {
        "AUTH": "false",  # see front.py
        # Its root key. It checks presigned URLs of S3 once more itself.
        "AWS_ACCESS_KEY_ID": settings.access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.secret_access_key,
        "GATEWAY_PORT": str(settings.port),
        "MINISTACK_HOST": settings.host,
        "MINISTACK_REGION": settings.region,
        "SERVICES": ",".join(SERVICES),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(data / "s3"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(data / "state"),
        # Listeners of their own, on every address.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }


async def _serve(settings: Settings, descriptor: int) -> None:
    # Imported here, because both read the environment that _prepare_ministack sets.
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.core import hypercorn_compat

    from local.aws import refusals, resharding, streams
    from local.aws.durable import Durable

    refusals.install()
    resharding.install()
    state = Path(settings.data_dir) / "state"
    store = streams.install(state / "streams.db")
    hypercorn_compat.install()
    front = Front(
        Verifier(settings.access_key_id, settings.secret_access_key, settings.region),
        Durable(state, store.save_all),
        KafkaConnectRoutes(settings.kafkaconnect, settings.region),
        service_of,
    )
    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    config.shutdown_timeout = 60
    LOG.info("found %d streams with %d records", *store.counts())
    LOG.info("serving AWS on http://%s:%d", settings.host, _port(descriptor))
    await serve(front, config, shutdown_trigger=_stop_signal)  # type: ignore[arg-type]


def service_of(target: str) -> str | None:
    """The service that ministack takes an X-Amz-Target header to address."""
    from ministack.core.router import SERVICE_PATTERNS

    for service, patterns in SERVICE_PATTERNS.items():
        if target.startswith(tuple(patterns.get("target_prefixes", ()))):
            return str(service)
    return None


def _port(descriptor: int) -> int:
    import socket

    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return int(sock.getsockname()[1])


async def _stop_signal() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
