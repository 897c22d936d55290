"""The identity key: made once, readable by its owner only, refused when it is anything else."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from skerry.node.identity import load_identity, load_or_create_identity
from skerry.protocol.errors import ConfigError, StateError


def pem_of(key, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_key_is_made_once_and_stays(tmp_path) -> None:
    path = tmp_path / "identity.pem"
    first = load_or_create_identity(path).private_bytes_raw()
    assert load_or_create_identity(path).private_bytes_raw() == first
    assert load_or_create_identity(tmp_path / "other.pem").private_bytes_raw() != first
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_key_is_for_its_owner_only_whatever_the_umask(tmp_path, umask) -> None:
    previous = os.umask(umask)
    try:
        load_or_create_identity(tmp_path / "identity.pem")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "identity.pem").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["identity.pem"]


def test_many_first_starts_at_once_agree_on_one_key(tmp_path) -> None:
    path = tmp_path / "identity.pem"
    with ThreadPoolExecutor(16) as pool:
        keys = pool.map(lambda _: load_or_create_identity(path).private_bytes_raw(), range(64))
        assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["identity.pem"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem_of(generate_private_key(SECP256R1())),
        pem_of(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
        pem_of(Ed25519PrivateKey.generate())[:60],
    ],
    ids=["empty", "text", "hollow", "other kind", "encrypted", "cut short"],
)
def test_anything_but_an_ed25519_key_is_refused_and_kept(tmp_path, content) -> None:
    path = tmp_path / "identity.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="SK-KEY-001") as caught:
        load_or_create_identity(path)
    assert str(path) in caught.value.detail
    assert path.read_bytes() == content


def test_unreadable_key_is_refused(tmp_path) -> None:
    (tmp_path / "identity.pem").mkdir()
    with pytest.raises(ConfigError, match=r"SK-KEY-001: .*Is a directory"):
        load_or_create_identity(tmp_path / "identity.pem")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_key_that_others_can_use_is_refused(tmp_path, mode) -> None:
    path = tmp_path / "identity.pem"
    load_or_create_identity(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"SK-KEY-002: .* {mode:04o}, must be 0600"):
        load_or_create_identity(path)
    path.chmod(0o400)
    load_identity(path)


def test_no_place_for_the_key_is_a_coded_error(tmp_path) -> None:
    with pytest.raises(StateError, match="SK-DSK-003"):
        load_or_create_identity(tmp_path / "missing" / "identity.pem")


def test_full_disk_is_a_coded_error_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="SK-DSK-001"):
        load_or_create_identity(tmp_path / "identity.pem")
    assert list(tmp_path.iterdir()) == []
