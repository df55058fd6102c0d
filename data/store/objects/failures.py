"""What went wrong between us and an object store, and what a person does about it."""

import re
from typing import Any

from dipole.data.core.errors import StorageError
from dipole.data.store.objects.url import ObjectUrl

# Answers that another attempt does not change. Whatever else comes is tried again.
_FINAL = (
    "NotFoundError",
    "FileNotFoundError",
    "PermissionDeniedError",
    "UnauthenticatedError",
    "PreconditionError",
    "AlreadyExistsError",
    "InvalidPathError",
    "NotSupportedError",
    "UnknownConfigurationKeyError",
    "NotImplementedError",
    "ValueError",
    "TypeError",
)
_REFUSED = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "403 Forbidden",
    "401 Unauthorized",
)
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_NO_KEYS = ("169.254.169.254", "metadata.google.internal", "MissingCredentials")
_MISSING_SETTING = ("Missing", "must be specified", "account name")

_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN for temporary ones), or "
    "AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, a file, or GOOGLE_SKIP_SIGNATURE=true for a public "
    "bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or "
    "AZURE_SKIP_SIGNATURE=true for a public container",
}


def is_final(error: BaseException) -> bool:
    """Whether the same request would fail in the same way again."""
    text = reason(error)
    if any(code in text for code in (*_NO_BUCKET, *_REFUSED, *_NO_KEYS)):
        return True
    return type(error).__name__ in _FINAL


def reason(error: BaseException) -> str:
    """One line of an error whose text may have many."""
    text = str(error).split("Debug source")[0]
    code = re.search(r"<Code>(.*?)</Code>", text, re.DOTALL)
    message = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    first = " ".join(text.split("<")[0].split())
    first = re.sub(r" in \d[\d.]*[a-zµ]+", "", first).rstrip(": ")
    told = f"{code[1]}: {message[1] if message else ''}".strip(": .") if code else ""
    return (f"{first} ({told})" if told else first)[:400]


def failure(url: ObjectUrl, what: str, error: BaseException, attempts: str = "") -> StorageError:
    """The error for a request that failed for good.

    what: The request, in words. attempts: How often it was tried, in words, or "".
    """
    told = reason(error)
    return StorageError(f"{url}: {what} failed{attempts}: {told}. {advice(url, told)}")


def advice(url: ObjectUrl, text: str) -> str:
    """What to do about an answer."""
    if any(code in text for code in _NO_BUCKET):
        return f"There is no {url.root}: create it, or see to the name and the endpoint (" + (
            "AWS_ENDPOINT_URL)" if url.scheme == "s3" else "the account)"
        )
    if any(code in text for code in _REFUSED):
        return f"The credentials were refused{_variables(url, ': see to ')}"
    if any(code in text for code in (*_NO_KEYS, *_MISSING_SETTING)):
        return f"No credentials were found{_variables(url, ': set ')}"
    if "412 Precondition" in text or "recondition fail" in text:
        return "It was changed meanwhile: begin again with what is there now"
    if "not found" in text.lower():
        return "It is not there: see to the name, or upload it again"
    return "See to the network, the endpoint and the service, then start again"


def _variables(url: ObjectUrl, before: str) -> str:
    known: Any = _VARIABLES.get(url.scheme)
    return f"{before}{known}" if known else ""
