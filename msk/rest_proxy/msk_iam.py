"""Login to MSK with AWS credentials."""

from __future__ import annotations

import asyncio

from aiokafka.abc import AbstractTokenProvider
from aws_msk_iam_sasl_signer import MSKAuthTokenProvider


class MskIamTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Signs a fresh token for every connection with the machine's own credentials (profile, role, container)."""

    def __init__(self, region: str) -> None:
        self._region = region

    async def token(self) -> str:
        """Return a token; finding the credentials may take a call, so it is made beside the event loop."""
        token, _expires_at_ms = await asyncio.to_thread(
            MSKAuthTokenProvider.generate_auth_token, self._region
        )
        return str(token)
