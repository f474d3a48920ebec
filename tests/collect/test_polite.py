import datetime
import email.utils

import httpx
import pytest

from pathasst.collect.polite import PoliteClient, seconds_of
from pathasst.collect.signing import Signer
from pathasst.core.errors import Unreachable


def test_retry_after_in_both_forms() -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    assert seconds_of("7") == 7.0
    assert 90 < (seconds_of(email.utils.format_datetime(later)) or 0) <= 100
    assert seconds_of("Mon, 01 Jan 2001 00:00:00 GMT") == 0.0
    assert seconds_of("") is None and seconds_of("soon") is None


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(Unreachable, match="after 2 tries"):
        PoliteClient(rate=1000, attempts=2, back_off=0.01).get("http://127.0.0.1:9/x")


def test_back_off_doubles() -> None:
    client = PoliteClient(back_off=1.0)
    assert 0.7 < client._pause(1) < 1.3 and 2.9 < client._pause(3) < 5.1
    assert client._pause(1, 99999.0) == 300.0


def test_signature_is_that_of_awss_published_example() -> None:
    """ "GET Bucket Lifecycle" of the S3 documentation of Signature Version 4."""
    signer = Signer("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    request = httpx.Request("GET", "https://examplebucket.s3.amazonaws.com/?lifecycle=")
    signer(request, datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC))
    signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    assert request.headers["Authorization"].endswith(f"Signature={signature}")
