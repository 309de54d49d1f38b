"""How the notebooks reach the storage: which way of listing fits, and what to say when nothing does."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from pyspark.sql import SparkSession
from pyspark.sql.utils import AnalysisException

from pinterest_lake.addresses import BUCKET, NAME, quoted, redacted
from pinterest_lake.objects import BucketLister, FolderLister, Lister, StorageError, first_line


def lister_for(spark: SparkSession, dbutils: Any, storage: str) -> Lister:
    """A lister of the storage: of the bucket itself where the cluster's credentials allow it, else of folders.

    Only S3's own API can start a listing after a key. A mount is followed to its bucket. A storage that can be
    listed and has no topics holds nothing yet; raises StorageError for one that cannot be listed.
    """
    check_reachable(dbutils, storage)
    folders = FolderLister(storage, dbutils.fs.ls)
    source = _bucket_url(dbutils, storage)
    if source is None:
        return folders
    url = urlsplit(source)
    client = _s3_client(spark)
    bucket = url.netloc.rsplit("@", 1)[-1]
    if client is None or not _may_list(client, bucket):
        return folders
    return BucketLister(storage, bucket, url.path, client)


def _bucket_url(dbutils: Any, storage: str) -> str | None:
    if storage.startswith(("s3://", "s3a://")):
        return storage
    path = storage.removeprefix("dbfs:")
    if not path.startswith("/mnt/"):
        return None
    for mount in dbutils.fs.mounts():
        point = mount.mountPoint.rstrip("/")
        if (path == point or path.startswith(f"{point}/")) and mount.source.startswith(("s3://", "s3a://")):
            return str(mount.source).rstrip("/") + path.removeprefix(point)
    return None


def _s3_client(spark: SparkSession) -> Any:
    """A client with the cluster's own credentials, at the endpoint the cluster uses; None without boto3."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        return None
    endpoint = _setting(spark, "spark.hadoop.fs.s3a.endpoint")
    region = _setting(spark, "spark.hadoop.fs.s3a.endpoint.region")
    if endpoint and "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    path_style = _setting(spark, "spark.hadoop.fs.s3a.path.style.access") == "true"
    config = Config(
        s3={"addressing_style": "path" if path_style else "auto"},
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
    )
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _setting(spark: SparkSession, key: str) -> str | None:
    """Return a setting of the session; None where it is not set, or the compute (serverless) tells nobody."""
    try:
        value: str | None = spark.conf.get(key, None)
    except AnalysisException:
        return None
    return value


def _may_list(client: Any, bucket: str) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except (BotoCoreError, ClientError):
        return False
    return True


def mount(dbutils: Any, bucket: str, mount_point: str) -> str:
    """Mounts ``bucket`` (s3://…) at ``mount_point``; says what was done. A mount of another bucket is replaced."""
    if not re.fullmatch(rf"s3a?://{BUCKET}/?", bucket) or not re.fullmatch(
        rf"/mnt(?:/{NAME})+/?", mount_point
    ):
        raise StorageError(
            f"cannot mount {quoted(bucket)} at {quoted(mount_point)}: bucket must be s3://NAME, without a login, "
            "and mount_point a path under /mnt/"
        )
    mount_point = mount_point.rstrip("/")
    source = "s3a://" + bucket.split("://", 1)[1].rstrip("/")
    current = next((m.source for m in dbutils.fs.mounts() if m.mountPoint.rstrip("/") == mount_point), None)
    if current is not None:
        if current.rstrip("/").replace("s3://", "s3a://") == source:
            return f"{mount_point} is a mount of {bucket} already"
        dbutils.fs.unmount(mount_point)
    dbutils.fs.mount(source, mount_point)
    return f"mounted {bucket} at {mount_point}" + (f" in the place of {redacted(current)}" if current else "")


def check_reachable(dbutils: Any, storage: str) -> None:
    """Raises StorageError, with what to do, unless the storage can be listed."""
    try:
        dbutils.fs.ls(storage)
    except Exception as error:
        raise StorageError(
            f"{storage} cannot be listed: {first_line(error)}. Check that the bucket (or volume) exists and that "
            "the cluster's instance profile may list and read it."
        ) from error
