"""Refusals in the words and forms of AWS: XML for S3 and the query services, JSON for the others."""

import json
import uuid
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from starlette.responses import Response

from local import sigv4
from local.aws.s3_requests import RefusedRequest
from local.sigv4 import Scope, SignatureError, header


@dataclass(frozen=True)
class Codes:
    """One refusal's error code, as each family of services spells it, and S3's HTTP status where it is not 403."""

    s3: str
    query: str
    json: str
    s3_status: int = 403


CODES: dict[type[SignatureError], Codes] = {
    sigv4.MissingToken: Codes(
        "AccessDenied", "MissingAuthenticationToken", "MissingAuthenticationTokenException"
    ),
    sigv4.IncompleteSignature: Codes(
        "AuthorizationHeaderMalformed", "IncompleteSignature", "IncompleteSignatureException"
    ),
    sigv4.UnknownKey: Codes("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"),
    sigv4.UnknownToken: Codes("InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException", 400),
    sigv4.WrongScope: Codes(
        "AuthorizationHeaderMalformed", "SignatureDoesNotMatch", "InvalidSignatureException"
    ),
    sigv4.SignatureExpired: Codes(
        "RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"
    ),
    sigv4.SignatureMismatch: Codes(
        "SignatureDoesNotMatch", "SignatureDoesNotMatch", "InvalidSignatureException"
    ),
    sigv4.UnknownPayloadForm: Codes(
        "InvalidArgument", "SignatureDoesNotMatch", "InvalidSignatureException", 400
    ),
    sigv4.PayloadMismatch: Codes(
        "XAmzContentSHA256Mismatch", "SignatureDoesNotMatch", "InvalidSignatureException"
    ),
}


class TooLarge(Exception):
    """The body is larger than the stand-in takes."""


def refusal(scope: Scope, error: SignatureError | TooLarge | RefusedRequest) -> Response:
    """The answer to a request that may not pass."""
    if isinstance(error, RefusedRequest):
        return _s3_error(error.status, error.code, str(error))
    if isinstance(error, TooLarge):
        codes = Codes("EntityTooLarge", "RequestEntityTooLarge", "RequestEntityTooLargeException", 413)
        return _answer(scope, 413, codes, str(error))
    return _answer(scope, 403, CODES[type(error)], str(error))


def json_error(status: int, code: str, message: str) -> Response:
    """An error as the JSON services send it; `x-amzn-errortype` names it where the body does not."""
    body = json.dumps({"__type": code, "message": message})
    return Response(body, status, {"x-amzn-errortype": code}, media_type="application/json")


def _s3_error(status: int, code: str, message: str) -> Response:
    request_id = str(uuid.uuid4())
    body = _xml("Error", {"Code": code, "Message": message, "RequestId": request_id})
    content = '<?xml version="1.0" encoding="UTF-8"?>\n' + body
    return Response(content, status, {"x-amz-request-id": request_id}, media_type="application/xml")


def _answer(scope: Scope, status: int, codes: Codes, message: str) -> Response:
    match _family(scope):
        case "s3":
            return _s3_error(codes.s3_status, codes.s3, message)
        case "query":
            request_id = str(uuid.uuid4())
            body = _xml(
                "ErrorResponse",
                {
                    "Error": {"Type": "Sender", "Code": codes.query, "Message": message},
                    "RequestId": request_id,
                },
            )
            return Response(body, status, {"x-amzn-RequestId": request_id}, media_type="text/xml")
        case _:
            return json_error(status, codes.json, message)


def _family(scope: Scope) -> str:
    """Which family of services a request is for, as far as an unproven request can tell."""
    content_type = header(scope, "content-type") or ""
    if content_type.startswith("application/x-www-form-urlencoded"):
        return "query"
    if "json" in content_type or header(scope, "x-amz-target"):
        return "json"
    authorization = header(scope, "authorization") or ""
    service = authorization.split("/")[3] if authorization.count("/") >= 4 else "s3"
    return "s3" if service == "s3" else "json"


def _xml(name: str, content: dict[str, Any]) -> str:
    inner = "".join(
        _xml(key, value) if isinstance(value, dict) else f"<{key}>{escape(value)}</{key}>"
        for key, value in content.items()
    )
    return f"<{name}>{inner}</{name}>"
