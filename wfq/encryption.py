"""Payloads as ciphertext: AES-GCM, with named keys that can be exchanged.

::

    from wfq.encryption import AesGcmCodec, generate_key

    codec = AesGcmCodec({"2026-11": key, "2026-05": older_key})
    wfr = wf.WorkflowRuntime(payload_codec=codec)

or, without code, in every process that is to read payloads:
``WFQ_ENCRYPTION_KEYS="2026-11:BASE64,2026-05:BASE64"``. The first key encrypts, all of them
decrypt. Needs the extra ``wfq[crypto]``.

What is encrypted: inputs, outputs, results, events, custom statuses and heartbeat details. Not
encrypted: names, ids, times, and what exceptions say (message and stack).

A transformed payload is: 0x01, length of the key's name, the name, 12 random bytes, ciphertext
and tag. The name is authenticated with it.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping

from wfq.errors import ConfigurationError, PayloadLocked

#: Bytes of a key.
KEY_BYTES = 32
_VERSION = 1
_NONCE_BYTES = 12
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HINT = "write WFQ_ENCRYPTION_KEYS as NAME:BASE64 of 32 bytes, several with commas between"


def generate_key() -> str:
    """Return a new random key in base64, as settings take it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def parse_keys(text: str) -> dict[str, bytes]:
    """Return the keys of ``NAME:BASE64,NAME:BASE64`` in their order.

    Raises: ConfigurationError, which shows no part of a key.
    """
    keys: dict[str, bytes] = {}
    for part in filter(None, (piece.strip() for piece in re.split(r"[,\s]+", text))):
        name, separator, encoded = part.partition(":")
        if not separator or not _NAME.fullmatch(name):
            raise ConfigurationError(f"encryption key number {len(keys) + 1} has no name; {_HINT}")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ConfigurationError(f"encryption key {name!r} is not base64; {_HINT}") from None
        if name in keys:
            raise ConfigurationError(f"encryption key {name!r} is there twice; {_HINT}")
        keys[name] = key
    return keys


class AesGcmCodec:
    """A PayloadCodec that encrypts with AES-256-GCM. Safe to share between threads.

    keys: 32 bytes each, or their base64, by name; the first encrypts, all decrypt. Keep a key
    until no history holds anything that it encrypted.
    Raises: ConfigurationError for a key that cannot be used, or without `cryptography`.
    """

    def __init__(self, keys: Mapping[str, bytes | str]) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise ConfigurationError(
                "encryption needs the package cryptography: pip install 'wfq[crypto]'"
            ) from None
        if not keys:
            raise ConfigurationError(f"there are no encryption keys; {_HINT}")
        self._wrong = InvalidTag
        self._ciphers = {name: AESGCM(_checked(name, key)) for name, key in keys.items()}
        first = next(iter(keys)).encode()
        self._header = bytes((_VERSION, len(first))) + first
        self._first = self._ciphers[first.decode()]

    def __repr__(self) -> str:
        return f"<AesGcmCodec with keys {', '.join(self._ciphers)}>"

    def encode(self, data: bytes) -> bytes:
        """Encrypt with the first key."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._header + nonce + self._first.encrypt(nonce, data, self._header)

    def decode(self, data: bytes) -> bytes:
        """Decrypt with the key that the payload names. Raises: PayloadLocked."""
        size = data[1] if len(data) > 1 else 0
        if len(data) < 2 + size + _NONCE_BYTES or data[0] != _VERSION:
            raise PayloadLocked("a payload was not encrypted by AesGcmCodec")
        header, nonce = data[: 2 + size], data[2 + size : 2 + size + _NONCE_BYTES]
        name = header[2:].decode("ascii", "replace")
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise PayloadLocked(
                f"a payload is encrypted with key {name!r}, and this process has only "
                f"{', '.join(self._ciphers)}; add it to WFQ_ENCRYPTION_KEYS"
            )
        try:
            return cipher.decrypt(nonce, data[2 + size + _NONCE_BYTES :], header)
        except self._wrong:
            raise PayloadLocked(
                f"a payload cannot be decrypted: its key {name!r} is not the one that this "
                "process has under that name, or it was altered"
            ) from None


def _checked(name: str, key: bytes | str) -> bytes:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot name an encryption key; {_HINT}")
    if isinstance(key, str):
        try:
            key = base64.b64decode(key, validate=True)
        except binascii.Error:
            raise ConfigurationError(f"encryption key {name!r} is not base64; {_HINT}") from None
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"encryption key {name!r} has {len(key)} bytes instead of {KEY_BYTES}; {_HINT}"
        )
    return key
