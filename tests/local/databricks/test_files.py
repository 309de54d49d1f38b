"""``dbutils.fs``, mounts and s3 paths, over an S3 that checks signatures."""

import json
from collections.abc import Callable
from typing import Any

from tests.local.databricks.conftest import NEW_CLUSTER, Lab

EXIT = "import json\ndbutils.notebook.exit(json.dumps(out))"


def outputs(lab: Lab, name: str, *cells: str, **fields: Any) -> Any:
    """What a notebook leaves in its variable ``out``."""
    ended = lab.run(lab.notebook(name, "out = {}", *cells, EXIT), **fields)
    assert ended.error == "", ended.trace
    return json.loads(ended.result)


def test_dbfs_is_a_folder_that_python_spark_and_dbutils_share(lab: Lab) -> None:
    out = outputs(
        lab,
        "dbfs",
        """
        dbutils.fs.mkdirs("dbfs:/data/in")
        dbutils.fs.put("/data/in/a.txt", "first\\nsecond\\n")
        out["ls"] = [(file.path, file.name, file.size) for file in dbutils.fs.ls("/data")]
        out["file"] = [(file.path, file.name, file.size) for file in dbutils.fs.ls("dbfs:/data/in")]
        out["lines"] = [row.value for row in spark.read.text("/data/in").collect()]
        out["head"] = dbutils.fs.head("/data/in/a.txt", 5)
        spark.range(2).write.format("delta").save("/data/delta")
        out["delta"] = spark.read.load("dbfs:/data/delta").count()
        dbutils.fs.cp("/data/in", "/data/out", recurse=True)
        dbutils.fs.mv("/data/out/a.txt", "/data/b.txt")
        out["after"] = sorted(file.name for file in dbutils.fs.ls("/data"))
        out["rm"] = dbutils.fs.rm("/data", recurse=True)
        """,
        """
        errors = {}
        for name, call in {
            "ls": lambda: dbutils.fs.ls("/data"),
            "put": lambda: [dbutils.fs.put("/twice", "x", True), dbutils.fs.put("/twice", "x")],
            "cp": lambda: [dbutils.fs.mkdirs("/folder"), dbutils.fs.cp("/folder", "/other")],
        }.items():
            try:
                call()
            except Exception as error:
                errors[name] = str(error)
        out["errors"] = errors
        """,
    )
    assert out["ls"] == [["dbfs:/data/in/", "in/", 0]]
    assert out["file"] == [["dbfs:/data/in/a.txt", "a.txt", 13]]
    assert (out["lines"], out["head"], out["delta"]) == (["first", "second"], "first", 2)
    assert out["after"] == ["b.txt", "delta/", "in/", "out/"]
    assert out["rm"] is True
    assert out["errors"]["ls"].startswith("java.io.FileNotFoundException")
    assert out["errors"]["put"].startswith("org.apache.hadoop.fs.FileAlreadyExistsException")
    assert "recurse" in out["errors"]["cp"]
    assert (lab.home / "dbfs" / "twice").read_text() == "x"


def test_a_mount_is_the_bucket_for_spark_delta_and_dbutils(lab: Lab, s3: Any) -> None:
    s3.put_object(Bucket="lab-bucket", Key="topics/pin/one.json", Body=b'{"n": 1}\n{"n": 2}\n')
    out = outputs(
        lab,
        "mount",
        """
        out["mounted"] = dbutils.fs.mount("s3a://lab-bucket", "/mnt/lab")
        out["read"] = spark.read.schema("n int").json("/mnt/lab/topics/pin").count()
        out["direct"] = [spark.read.text(f"{scheme}://lab-bucket/topics/pin").count() for scheme in ("s3", "s3a")]
        spark.range(3).write.format("delta").save("/mnt/lab/delta")
        spark.range(3).write.format("delta").mode("append").save("dbfs:/mnt/lab/delta")
        out["delta"] = spark.read.load("s3://lab-bucket/delta").count()
        dbutils.fs.put("dbfs:/mnt/lab/answers/latest.json", "{}", True)
        out["mounts"] = [mount.source for mount in dbutils.fs.mounts() if mount.mountPoint == "/mnt/lab"]
        try:
            dbutils.fs.mount("s3a://lab-bucket", "/mnt/lab")
        except Exception as error:
            out["again"] = str(error)
        """,
    )
    assert out["again"].endswith("Directory already mounted: /mnt/lab")
    assert (out["mounted"], out["read"], out["direct"], out["delta"]) == (True, 2, [2, 2], 6)
    assert out["mounts"] == ["s3a://lab-bucket"]
    assert s3.get_object(Bucket="lab-bucket", Key="answers/latest.json")["Body"].read() == b"{}"

    own = outputs(
        lab,
        "mount_elsewhere",
        "out['ls'] = [f.name for f in dbutils.fs.ls('/mnt/lab/answers')]",
        new_cluster=NEW_CLUSTER,
    )
    assert own["ls"] == ["latest.json"]

    gone = outputs(
        lab,
        "unmount",
        """
        dbutils.fs.unmount("/mnt/lab")
        for name, call in {
            "ls": lambda: dbutils.fs.ls("/mnt/lab/answers"),
            "unmount": lambda: dbutils.fs.unmount("/mnt/lab"),
            "no_bucket": lambda: dbutils.fs.mount("s3a://there-is-no-such-bucket", "/mnt/none"),
            "gcs": lambda: dbutils.fs.mount("gs://bucket", "/mnt/none"),
        }.items():
            try:
                call()
            except Exception as error:
                out[name] = str(error)
        out["mounts"] = [mount.mountPoint for mount in dbutils.fs.mounts()]
        """,
    )
    assert "FileNotFoundException" in gone["ls"]
    assert gone["unmount"].endswith("Directory not mounted: /mnt/lab")
    assert "there-is-no-such-bucket" in gone["no_bucket"]
    assert "Only S3" in gone["gcs"]
    assert gone["mounts"] == ["/"]


def test_a_stream_keeps_its_checkpoint_on_dbfs(lab: Lab) -> None:
    cell = """
        spark.range(5).write.mode("append").format("delta").save("/stream/source")
        query = (
            spark.readStream.format("delta").load("/stream/source")
            .writeStream.option("checkpointLocation", "dbfs:/stream/checkpoint")
            .trigger(availableNow=True).toTable("streamed")
        )
        query.awaitTermination()
        out["rows"] = spark.table("streamed").count()
    """
    assert [outputs(lab, "checkpoint", cell)["rows"] for _ in range(2)] == [5, 10]
    assert (lab.home / "dbfs/stream/checkpoint/commits").is_dir()


def test_keys_in_the_url_of_a_mount_are_not_kept(lab: Lab, s3: Any, aws_client: Callable[[str], Any]) -> None:
    out = outputs(
        lab,
        "keys",
        """
        out["mounted"] = dbutils.fs.mount("s3n://AKIAXXXX:secret%2Fkey@lab-bucket", "/mnt/keys")
        dbutils.fs.unmount("/mnt/keys")
        """,
    )
    assert out == {"mounted": True}
    assert "secret" not in (lab.home / "mounts.json").read_text()
