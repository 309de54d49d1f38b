"""A secrets backend that holds nothing and writes down what was asked for."""

import os
from pathlib import Path

from airflow.secrets import BaseSecretsBackend


class Recorder(BaseSecretsBackend):
    """Appends a line for each connection, variable or configuration that somebody looks for."""

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> None:
        self._asked("connection", conn_id)

    def get_variable(self, key: str, team_name: str | None = None) -> None:
        self._asked("Variable", key)

    @staticmethod
    def _asked(kind: str, name: str) -> None:
        with Path(os.environ["ASKED_FOR"]).open("a", encoding="utf-8") as file:
            file.write(f"{kind} {name}\n")
