"""Errors as the Databricks REST API gives them: an HTTP status, an error code and a message."""

from __future__ import annotations

_STATUS = {
    "401": 401,
    "403": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "FEATURE_DISABLED": 404,
}
_LONGEST = 400


class ApiError(Exception):
    """A request that cannot be served; ``code`` is Databricks' error code, 400 the status of most."""

    def __init__(self, code: str, message: str) -> None:
        # What was sent is repeated in messages, and may be of any length.
        self.message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
        super().__init__(self.message)
        self.code = code

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 400)

    def as_dict(self) -> dict[str, str]:
        return {"error_code": self.code, "message": self.message}
