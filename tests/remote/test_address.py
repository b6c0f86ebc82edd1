"""What addresses mean."""

import pytest

from gitml.remote.address import Address, AddressError, parse_address
from gitml.remote.services import open_bucket


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ml::s3://bucket/a/b", Address("s3", "bucket", "a/b")),
        ("s3://bucket", Address("s3", "bucket", "")),
        ("s3://bucket//a//", Address("s3", "bucket", "a")),
        ("s3://bucket/a%20b?region=eu-west-1", Address("s3", "bucket", "a b", {"region": "eu-west-1"})),
        ("gs://bucket/x", Address("gs", "bucket", "x")),
        ("az://container/x", Address("az", "container", "x")),
        ("file:///srv/a%23b/", Address("file", "", "/srv/a#b")),
        ("/srv/a b", Address("file", "", "/srv/a b")),
        ("ml::/", Address("file", "", "/")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://example.org/x", "no address of a store"),
        ("relative/path", "no address of a store"),
        ("s3:///x", "names no bucket"),
        ("s3://key:secret@bucket/x", "credentials do not belong"),
        ("s3://bucket/a/../b", "'.' or '..'"),
        ("s3://bucket/a%2F..%2Fb", "'.' or '..'"),
        ("s3://bucket/x#y", "'#'"),
        ("s3://bucket/x?region", "list of options"),
        ("s3://bucket/a%00b", "NUL"),
        ("file://server/share", "another machine"),
        ("s3://[bucket/x", "cannot read the address"),
    ],
)
def test_what_is_no_address_is_said(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says.replace(".", r"\.")):
        parse_address(text)


def test_the_query_wins_over_the_configuration() -> None:
    found = parse_address("s3://b/x?region=two", {"region": "one", "endpoint": "http://localhost:1"})
    assert found.options == {"region": "two", "endpoint": "http://localhost:1"}
    assert found.url == "s3://b/x"


def test_another_endpoint_is_another_store() -> None:
    one, two = (parse_address(f"s3://b/x?endpoint=http://localhost:{port}") for port in (1, 2))
    assert one.id != two.id
    assert one.id == parse_address("s3://b/x?endpoint=http://localhost:1&region=r").id


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3://b/x?colour=red", "unknown option"),
        ("file:///x?region=eu", "no option 'region'"),
        ("s3://b/x?single_writer=perhaps&endpoint=http://localhost:1", None),
        ("s3://b/x?endpoint=http://example.org", "not encrypted"),
        ("s3://b/x?anonymous=perhaps", "true or false"),
    ],
)
def test_options_are_checked(text: str, says: str | None) -> None:
    address = parse_address(text)
    if says is None:
        open_bucket(address)
        with pytest.raises(AddressError, match="true or false"):
            address.flag("single_writer")
    else:
        with pytest.raises(AddressError, match=says):
            open_bucket(address)
