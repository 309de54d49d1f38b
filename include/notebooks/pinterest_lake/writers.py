"""Who writes the stream tables: one driver at a time, the one that came last. Delta refuses all others.

A driver claims the tables when it comes up: it takes the next number, in the table ``stream_writers``. Each of its
commits, to whatever table, carries a transaction of Delta's that begins with that number. Its first one on each table
it makes before it reads anything there: from then on Delta leaves out whatever a driver with a smaller number commits,
also one that was thought dead and had only been held up. That driver looks at the claims after it has written: while
there is none but its own, all that it has written is in the tables.
"""

from __future__ import annotations

import datetime as dt
from itertools import count
from uuid import uuid4

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from pinterest_lake.lake import Lake
from pinterest_lake.ledger import LedgerError, OverlapError
from pinterest_lake.schemas import STREAM_WRITERS
from pinterest_lake.tables import Transaction, append_new, create_table, frame_of

WRITERS_TABLE = "stream_writers"
_CLAIMS = 5
"""Times that a driver claims the tables when others do so in the same moment."""
_COMMITS = 2**32
"""More than a driver makes: its transactions are numbered between its own number and the next driver's."""


class Writer:
    """One driver that has claimed the stream tables of a prefix."""

    def __init__(self, spark: SparkSession, lake: Lake) -> None:
        """Claim the tables.

        Raises OverlapError when other drivers claim them again and again, and LedgerError when the table of claims
        was restored to an older version.
        """
        self._spark = spark
        self._lake = lake
        self._name = lake.table(WRITERS_TABLE)
        create_table(
            spark,
            self._name,
            STREAM_WRITERS,
            "Drivers that have claimed the stream tables: the last one writes",
        )
        detail = spark.sql(f"DESCRIBE DETAIL {self._name}").select("id").collect()
        self._app = f"{detail[0]['id']}/{lake.prefix}"
        self._token = uuid4().hex
        self._number = self._claim()
        self._versions = count(self._number * _COMMITS)
        self.last = self.transaction()

    def transaction(self) -> Transaction:
        """Begin the next transaction: it is later than all that this driver, and any before it, has begun."""
        self.last = Transaction(self._app, next(self._versions))
        return self.last

    def fence(self, table: str, transaction: Transaction) -> None:
        """Have a table leave out whatever earlier drivers commit from now on. ``table`` is full and quoted."""
        append_new(table, self._spark.table(table).limit(0), transaction.writer, transaction.version)

    def check(self) -> None:
        """Raises OverlapError when another driver has claimed the tables: what this one has written may be left out."""
        last = self._last()
        if last is None or last["token"] != self._token:
            raise OverlapError(
                f"{self._lake.prefix}: another stream job, run {last and last['run_id']}, has taken over the stream "
                "tables. Nothing of what this one has written since counts. Only one may run for a schema: stop the "
                "one that is not wanted."
            )

    def _claim(self) -> int:
        for _ in range(_CLAIMS):
            last = self._last()
            number = last["number"] + 1 if last else 1
            row = {
                "prefix": self._lake.prefix,
                "number": number,
                "run_id": self._lake.run_id,
                "token": self._token,
                "at": dt.datetime.now(dt.UTC),
            }
            append_new(self._name, frame_of(self._spark, [row], STREAM_WRITERS), self._app, number)
            newest = self._last()
            if newest is None or newest["number"] < number:
                raise LedgerError(
                    f"{self._name} does not take claim {number}, for it has had one of that number: it was restored to "
                    "an older version, or rows were deleted. Restore it to its last version."
                )
            if newest["token"] == self._token:
                return number
        raise OverlapError(f"{self._lake.prefix}: other stream jobs claim the stream tables again and again")

    def _last(self) -> Row | None:
        mine = self._spark.table(self._name).where(F.col("prefix") == self._lake.prefix)
        return max(mine.collect(), key=lambda row: row["number"], default=None)
