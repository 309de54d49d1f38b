"""What API Gateway says when it does not pass a request on: status, x-amzn-ErrorType and the message of its body."""

from typing import ClassVar

from local import sigv4
from local.sigv4 import SignatureError


class GatewayError(Exception):
    """A refusal or a failure, in AWS' words. The text is what the caller reads."""

    status: ClassVar[int]
    kind: ClassVar[str]
    text: ClassVar[str] = ""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text or self.text)


class UnknownStage(GatewayError):
    status, kind, text = 403, "ForbiddenException", "Forbidden"


class UnknownRoute(GatewayError):
    """AWS says the same to a path it does not know and to one it knows and wants signed."""

    status, kind, text = 403, "MissingAuthenticationTokenException", "Missing Authentication Token"


class NotAuthorized(GatewayError):
    """A signature that does not hold; `kind` depends on what is wrong with it."""

    status = 403
    kind = "InvalidSignatureException"
    KINDS: ClassVar[dict[type[SignatureError], str]] = {
        sigv4.MissingToken: "MissingAuthenticationTokenException",
        sigv4.IncompleteSignature: "IncompleteSignatureException",
        sigv4.UnknownKey: "UnrecognizedClientException",
        sigv4.UnknownToken: "UnrecognizedClientException",
    }

    def __init__(self, error: SignatureError) -> None:
        super().__init__(str(error))
        self.error_type = self.KINDS.get(type(error), self.kind)


class BadBody(GatewayError):
    status, kind, text = 400, "BadRequestException", "Invalid request body"


class BadPath(GatewayError):
    """A path that could lead out of its resource."""

    status, kind, text = 400, "BadRequestException", "Bad Request"


class TooLarge(GatewayError):
    status, kind, text = 413, "RequestTooLargeException", "Request Too Long"


class UnsupportedMediaType(GatewayError):
    status, kind, text = 415, "UnsupportedMediaTypeException", "Unsupported Media Type"


class IntegrationFailure(GatewayError):
    """The back end could not be reached, broke off, or its answer could not be mapped."""

    status, kind, text = 500, "InternalServerErrorException", "Internal server error"


class IntegrationTimeout(GatewayError):
    status, kind, text = 504, "InternalServerErrorException", "Endpoint request timed out"
