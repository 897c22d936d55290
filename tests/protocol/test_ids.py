"""Names and content addresses."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import content_hash, is_hash, short


@given(st.binary(max_size=200))
def test_a_content_hash_is_the_blake2b_of_the_bytes(data):
    assert content_hash(data) == blake2b(data, digest_size=32).hexdigest()
    assert content_hash(memoryview(data)) == content_hash(data)
    assert is_hash(content_hash(data))


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" + "a" * 61])
def test_anything_else_is_no_hash(text):
    assert not is_hash(text)


def test_short_keeps_the_end_of_peer_ids_and_the_start_of_hashes():
    # All Ed25519 peer ids start alike; hashes differ from the first digit on.
    assert short("12D3KooWAbcdefXYZ123") == "XYZ123"
    assert short("0123456789abcdef") == "01234567"
