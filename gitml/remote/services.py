"""Which store an address means: services with their credentials and endpoints, directories."""

import os
import socket
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from gitml.remote.address import Address, AddressError
from gitml.remote.bucket import NO_CREDENTIALS, Bucket, detail_of, no_credentials
from gitml.remote.directory import DirectoryBucket

_RETRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
_CLIENT: Any = {
    # of a whole request: a piece must get through a slow line; what stalls is found by the time of one read
    "timeout": timedelta(minutes=15),
    "read_timeout": timedelta(seconds=30),
    "connect_timeout": timedelta(seconds=10),
}
_OWN = {"single_writer", "profile", "anonymous", "allow_http"}
"""Options that are ours and not obstore's."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_ENVIRONMENT_OF_S3 = {
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_METADATA_ENDPOINT", "AWS_SKIP_SIGNATURE",
}  # fmt: skip
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Variables that name another server than the service's own."""
_SETTING_OF_CREDENTIALS = ("metadata", "skip_signature", "credential", "web_identity")

_METADATA = ("169.254.169.254", 80)
"""Where a machine of a cloud has credentials for what runs on it."""


def open_bucket(address: Address) -> Bucket:
    """The bucket at an address; nothing is asked of it yet. Raise `AddressError`."""
    if address.scheme == "file":
        unknown = address.options.keys() - {"single_writer"}
        if unknown:
            raise AddressError(f"a directory has no option '{min(unknown)}'")
        return DirectoryBucket(Path(address.path), address.url)
    build = {"s3": _open_s3, "gs": _open_gs, "az": _open_az}[address.scheme]
    try:
        return Bucket(build(address), address.url)
    except exceptions.UnknownConfigurationKeyError as error:
        raise AddressError(f"unknown option in the address: {detail_of(error)}", hint="see docs/remote.md") from None
    except (exceptions.BaseError, ValueError, TypeError) as error:
        if NO_CREDENTIALS.search(str(error)):
            raise no_credentials(address.url) from None
        raise AddressError(f"cannot use '{address.url}': {detail_of(error)}") from None


def _require_machine(address: Address) -> None:
    """Raise `StoreError` unless this may be a machine of a cloud: the clients would look for one for a minute."""
    with suppress(OSError), socket.create_connection(_METADATA, timeout=1):
        return
    raise no_credentials(address.url)


def _open_s3(address: Address) -> S3Store:
    config = _config(address)
    provider = _s3_credentials(address)
    elsewhere = any(word in name.lower() for name in config for word in _SETTING_OF_CREDENTIALS)
    if provider is None and not (elsewhere or address.flag("anonymous") or _ENVIRONMENT_OF_S3 & os.environ.keys()):
        _require_machine(address)
    return S3Store(
        address.bucket, prefix=address.path or None, config=config, client_options=_client(address),
        retry_config=_RETRIES, credential_provider=provider,
    )  # fmt: skip


def _open_gs(address: Address) -> GCSStore:
    config = _config(address)
    if "endpoint" in config:
        config["base_url"] = config.pop("endpoint")
    return GCSStore(
        address.bucket, prefix=address.path or None, config=config, client_options=_client(address),
        retry_config=_RETRIES,
    )  # fmt: skip


def _open_az(address: Address) -> AzureStore:
    config = _config(address)
    return AzureStore(
        address.bucket, prefix=address.path or None, config=config, client_options=_client(address),
        retry_config=_RETRIES,
    )  # fmt: skip


def _config(address: Address) -> Any:
    """The options of an address as obstore wants them."""
    config: dict[str, Any] = {name: value for name, value in address.options.items() if name not in _OWN}
    if address.flag("anonymous"):
        config["skip_signature"] = True
    return config


def _client(address: Address) -> Any:
    """Settings of the HTTP client. Without TLS only to this machine, unless the user asks for it."""
    names = _ENDPOINTS[address.scheme]
    endpoint = address.options.get("endpoint") or next((os.environ[each] for each in names if os.environ.get(each)), "")
    allowed = address.flag("allow_http") or (bool(endpoint) and urlsplit(endpoint).hostname in _LOOPBACK)
    if endpoint.startswith("http://") and not allowed:
        raise AddressError(f"'{endpoint}' is not encrypted", hint="use https, or say allow_http=true")
    return {**_CLIENT, "allow_http": allowed}


def _s3_credentials(address: Address) -> Any:
    """The credentials of boto3, which knows profiles and single sign-on; None leaves the choice to obstore.

    obstore reads the environment and asks the machine it runs on (web identity, container, instance).
    """
    profile = address.options.get("profile") or os.environ.get("AWS_PROFILE")
    if address.flag("anonymous") or (profile is None and "AWS_ACCESS_KEY_ID" in os.environ):
        return None
    files = [os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
             os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")]  # fmt: skip
    if profile is None and not any(Path(file).expanduser().exists() for file in files):
        return None
    try:
        import boto3.session  # noqa: PLC0415 - 0.3 s, and only where there are profiles
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
    except ImportError:
        if profile is None:
            return None
        raise AddressError(
            f"the AWS profile '{profile}' can only be read with boto3", hint="pip install 'gitml[s3]'"
        ) from None
    try:
        return Boto3CredentialProvider(boto3.session.Session(profile_name=profile))
    except Exception as error:  # botocore has many
        raise AddressError(f"no credentials from the AWS configuration: {error}") from None
