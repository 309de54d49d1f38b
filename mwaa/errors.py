"""What can go wrong on the way to AWS and Databricks, in words that say what to do about it.

DeployError
├── SettingError    mwaa.toml
├── PackageError    the artefacts (package.py) or their proof (proof.py)
├── StackError      CloudFormation
└── WorkspaceError  Databricks
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)


class DeployError(Exception):
    """One message: what is wrong, where, and what to do."""


class SettingError(DeployError):
    """A setting in mwaa.toml, or one that is missing."""


class PackageError(DeployError):
    """What is missing for a package, or what MWAA would have refused."""


class StackError(DeployError):
    """A CloudFormation stack that is not what it should be."""


class WorkspaceError(DeployError):
    """The Databricks workspace does not do what is asked."""


EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN_KEY = {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}


@contextmanager
def spoken() -> Iterator[None]:
    """Turn what boto3 raises into a DeployError that a person can act on."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise DeployError(
            f"No AWS credentials: {_sentence(error)} Sign in (aws sso login, aws configure) or set AWS_PROFILE, "
            "then run this again."
        ) from None
    except NoRegionError:
        raise DeployError('No AWS region. Name it in mwaa.toml: region = "us-east-1"') from None
    except EndpointConnectionError as error:
        raise DeployError(
            f"AWS does not answer: {_sentence(error)} Check the region in mwaa.toml (is it written right, and is the "
            "service there?), the network, and AWS_ENDPOINT_URL if it is set."
        ) from None
    except ClientError as error:
        raise DeployError(explain(error)) from None
    except BotoCoreError as error:
        raise DeployError(f"AWS: {error}") from None


def explain(error: ClientError) -> str:
    """Say what AWS has refused and what to do."""
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if code in EXPIRED:
        return f"The AWS credentials have expired ({code}). Sign in, then run this again; it goes on where it was."
    if code in UNKNOWN_KEY:
        return f"AWS does not know these credentials ({code}: {message.rstrip('.')}). Check AWS_PROFILE and the region."
    if code in DENIED:
        return (
            f"Not permitted: {error.operation_name}. AWS says: {_sentence(message)} Let your role do this "
            "(docs/operations.md lists what a deployment needs), then run this again; it goes on where it was."
        )
    if code in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:
        return f"The bucket's name is taken ({code}). Choose others in mwaa.toml: data_bucket, mwaa_bucket."
    return f"AWS refused {error.operation_name} ({code}): {message}"


def _sentence(reason: object) -> str:
    return f"{str(reason).strip().rstrip('.')}."
