"""The Spark session of a driver: Delta, ``dbfs:/`` and mounts, s3a with the machine's own credentials.

pyspark passes every setting on the command line of the JVM, where anyone may read it with ``ps``: nothing
secret may ever be added here. The JVM takes AWS credentials from AWS_SHARED_CREDENTIALS_FILE itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

MOUNT_LINK = "fs.viewfs.mounttable.root.link."


@dataclass(frozen=True)
class Settings:
    """What a driver is told by the server when it starts; the fields mean what they mean in Config."""

    home: str
    warehouse: str
    jars: Sequence[str]
    s3_endpoint_url: str
    region: str
    driver_memory: str
    scratch: str
    warm: bool
    legacy_features: bool
    catalogs: Sequence[str]

    @property
    def workspace(self) -> Path:
        return Path(self.home) / "workspace"


def start(settings: Settings, mounts: Mapping[str, str]) -> SparkSession:
    """Starts the JVM and gives its first session. Takes about 5 seconds on two cores."""
    scratch = Path(settings.scratch)
    dbfs = Path(settings.home) / "dbfs"
    for folder in (scratch, dbfs, Path(settings.warehouse)):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        PYSPARK_PYTHON=sys.executable,
        PYSPARK_DRIVER_PYTHON=sys.executable,
        SPARK_LOCAL_IP="127.0.0.1",
        SPARK_LOCAL_DIRS=str(scratch),
        TMPDIR=str(scratch),
        TZ="UTC",
    )
    time.tzset()
    builder = SparkSession.builder.master("local[2]").appName("pinterest")
    for key, value in {
        **_spark(settings),
        **_filesystems(settings, dbfs),
        **{f"spark.hadoop.{MOUNT_LINK}{point}": source for point, source in mounts.items()},
    }.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _spark(settings: Settings) -> dict[str, str]:
    # On a warm driver, notebooks of some seconds would pay for the optimising compiler and end before it pays. A driver
    # of its own is for what lasts, a stream: once compiled, its micro-batches take a fifth less. The quick compiler
    # alone is given room for 48 MB of code; daily batches make 65, and would compile again what was put out. Reading a
    # record is one method of over 8,000 bytes, which Java would only ever interpret.
    quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
    compiler = quick if settings.warm else "-XX:-DontCompileHugeMethods"
    return {
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraClassPath": ":".join(settings.jars),
        "spark.driver.extraJavaOptions": (
            # The serial collector is as fast as any on small heaps, with 200 to 400 MB less.
            f"-XX:+UseSerialGC {compiler} -Duser.timezone=UTC -Djava.io.tmpdir={settings.scratch}"
        ),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # the driver's own ports: bound to loopback, and locked by a secret that Spark draws for itself
        "spark.authenticate": "true",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "WARN",
        "spark.scheduler.mode": "FAIR",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": f"file:{settings.warehouse}",
        "spark.sql.sources.default": "delta",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.parquet.compression.codec": "zstd",
        # Delta 4.4.0's parser does not know Spark 4.1's way of binding :parameters, and drops them
        "spark.sql.legacy.parameterSubstitution.constantsOnly": "true",
        # without it, AvailableNow on a Python source (kinesis) is one batch, after a crash only the one that failed
        "spark.sql.streaming.triggerAvailableNowWrapper.enabled": "true",
        # sized for two cores: the defaults split everything into 50 to 200 tasks
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        # compiled code is kept for as many plans as a stream has; of 100, the default, a MERGE alone takes 30
        "spark.sql.codegen.cache.maxEntries": "2000",
        # a MERGE rewrites each file that it finds a row in: of one file for all, the whole table, each micro-batch;
        # what has half the size is left as it is, or it would be put together with others for ever
        "spark.databricks.delta.optimize.maxFileSize": str(4 * 1024 * 1024),
        "spark.databricks.delta.optimize.minFileSize": str(2 * 1024 * 1024),
    }


def _filesystems(settings: Settings, dbfs: Path) -> dict[str, str]:
    """``dbfs:/`` is a view over the folder ``dbfs`` and the mounts, and the file system of bare paths."""
    s3a = "org.apache.hadoop.fs.s3a.S3AFileSystem"
    raw = "org.apache.hadoop.fs.RawLocalFileSystem"
    overload = "fs.viewfs.overload.scheme.target"
    hadoop = {
        "fs.defaultFS": "dbfs://root/",
        "fs.dbfs.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
        if settings.legacy_features
        else "pinterest.databricks.ClosedDbfs",
        # without a checksum file beside each file, which costs a process or two (chmod) each
        "fs.file.impl": raw,
        "fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
        f"{overload}.file.impl": raw,
        f"{overload}.s3a.impl": s3a,
        "fs.viewfs.mounttable.root.linkFallback": f"file://{dbfs}",
        # a view is built anew at each use, so that a mount is seen at once; what it mounts is kept
        "fs.dbfs.impl.disable.cache": "true",
        "fs.viewfs.enable.inner.cache": "false",
        "fs.s3.impl": s3a,
        "fs.AbstractFileSystem.s3.impl": "org.apache.hadoop.fs.s3a.S3A",
        "fs.s3a.aws.credentials.provider": "software.amazon.awssdk.auth.credentials.ProfileCredentialsProvider",
        "fs.s3a.endpoint.region": settings.region,
        "fs.s3a.create.performance": "true",
        "fs.s3a.fast.upload.buffer": "bytebuffer",
        "fs.s3a.input.stream.type": "classic",
        "fs.s3a.experimental.input.fadvise": "whole-file",
        "fs.s3a.retry.limit": "4",
    }
    if settings.s3_endpoint_url:
        hadoop["fs.s3a.endpoint"] = settings.s3_endpoint_url
        hadoop["fs.s3a.path.style.access"] = "true"
        hadoop["fs.s3a.connection.ssl.enabled"] = str(settings.s3_endpoint_url.startswith("https")).lower()
    return {f"spark.hadoop.{key}": value for key, value in hadoop.items()} | {
        # tables lie in file:, where several drivers commit to them
        "spark.delta.logStore.file.impl": "pinterest.databricks.LinkLogStore",
        # writes a commit only where this driver sees none; the default needs an AbstractFileSystem, which a view lacks
        "spark.delta.logStore.dbfs.impl": "io.delta.storage.S3SingleDriverLogStore",
    }


def warm_up(spark: SparkSession, scratch: Path) -> None:
    """Has the JVM load and compile half of what a first notebook would wait for."""
    table = f"delta.`file:{scratch / 'warm-up'}`"
    spark.sql(f"CREATE TABLE {table} AS SELECT id, '{{\"n\": 1}}' AS line FROM range(10)")
    spark.sql(
        f"MERGE INTO {table} AS t USING (SELECT id * 2 AS id, '' AS line FROM range(10)) AS s ON t.id = s.id"
        " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )
    query = "SELECT from_json(line, 'n int').n AS n, count(*), median(id) FROM {} GROUP BY n ORDER BY n"
    spark.sql(query.format(table)).collect()


def attach_catalogs(spark: SparkSession, names: Sequence[str]) -> None:
    """Makes the session know Unity Catalog's catalogs, each another name of the one that there is.

    Without them Spark takes a catalog for a part of a schema's name, as on a cluster without an access mode. The
    session must be its thread's active one.
    """
    jvm: Any = spark._jvm
    state = spark._jsparkSession.sessionState()  # type: ignore[attr-defined]
    for name in names:
        spark.conf.set(f"spark.sql.catalog.{name}", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        session_catalog = jvm.org.apache.spark.sql.execution.datasources.v2.V2SessionCatalog(state.catalog())
        state.catalogManager().catalog(name).setDelegateCatalog(session_catalog)


def attach_tables(spark: SparkSession, warehouse: Path) -> None:
    """Makes the catalog agree with the warehouse folder: the Delta logs are the truth.

    The catalog lives in memory, and other drivers create and drop tables meanwhile. What lies in the folder is
    registered as the managed table it is, what has gone is forgotten.
    """
    found = {("default", log.parent.name): log.parent for log in warehouse.glob("*/_delta_log")}
    found |= {
        (log.parents[1].stem, log.parent.name): log.parent for log in warehouse.glob("*.db/*/_delta_log")
    }
    for schema in sorted(folder.stem for folder in warehouse.glob("*.db")):
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
    catalog = spark._jsparkSession.sharedState().externalCatalog()  # type: ignore[attr-defined]
    known = {
        (schema, table)
        for schema in list(_strings(catalog.listDatabases()))
        for table in list(_strings(catalog.listTables(schema)))
    }
    for schema, table in sorted(found.keys() - known):
        try:
            _register(spark, schema, table, found[schema, table])
        except Exception as error:  # half made, or half deleted, by somebody else: no reason to run nothing
            print(f"{schema}.{table} is not attached: {error}", flush=True)
    for schema, table in sorted(known - found.keys()):
        entry = catalog.getTable(schema, table)
        if entry.tableType().name() == "MANAGED" and not Path(entry.location().getPath()).exists():
            catalog.dropTable(schema, table, True, False)


def _strings(sequence: Any) -> Iterator[str]:
    return (str(sequence.apply(index)) for index in range(sequence.size()))


def _register(spark: SparkSession, schema: str, table: str, folder: Path) -> None:
    name = f"{_quoted(schema)}.{_quoted(table)}"
    spark.sql(f"CREATE TABLE IF NOT EXISTS {name} USING delta LOCATION 'file:{folder}'")
    # A table with a location is external, and dropping it would leave its files behind, to be attached again.
    jvm: Any = spark._jvm
    catalog = spark._jsparkSession.sharedState().externalCatalog()  # type: ignore[attr-defined]
    entry = catalog.getTable(schema, table)
    fields = [entry.productElement(index) for index in range(entry.productArity())]
    fields[1] = jvm.org.apache.spark.sql.catalyst.catalog.CatalogTableType.MANAGED()
    catalog.alterTable(entry.copy(*fields))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
