"""AES-GCM payloads: formats, keys, rotation, and errors that show no key."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest

from wfq.codec import Codec
from wfq.encryption import AesGcmCodec, generate_key, parse_keys
from wfq.errors import ConfigurationError, PayloadLocked
from wfq.management.scope import find_target
from wfq.settings import load_settings

OLD, NEW = generate_key(), generate_key()


def test_it_gives_back_what_it_was_given() -> None:
    codec = AesGcmCodec({"k": OLD})

    for data in (b"", b"{}", b"x" * 1_000_000):
        assert codec.decode(codec.encode(data)) == data


def test_the_same_payload_never_looks_the_same() -> None:
    codec = AesGcmCodec({"k": OLD})

    seen = {codec.encode(b'"secret"') for _ in range(100)}

    assert len(seen) == 100
    assert not any(b"secret" in data for data in seen)


def test_keys_rotate() -> None:
    before = AesGcmCodec({"old": OLD})
    both = AesGcmCodec({"new": NEW, "old": OLD})
    after = AesGcmCodec({"new": NEW})

    old, new = before.encode(b"1"), both.encode(b"2")

    assert both.decode(old) == b"1"
    assert after.decode(new) == b"2"
    assert both.decode(new) == b"2"
    with pytest.raises(PayloadLocked, match="with key 'old', and this process has only new"):
        after.decode(old)
    with pytest.raises(PayloadLocked, match="with key 'new', and this process has only old"):
        before.decode(new)


def test_a_wrong_key_or_an_altered_payload_is_one_clear_error() -> None:
    codec = AesGcmCodec({"k": OLD})
    data = codec.encode(b'"value"')

    with pytest.raises(PayloadLocked, match="key 'k' is not the one") as caught:
        AesGcmCodec({"k": NEW}).decode(data)
    assert OLD not in str(caught.value)
    assert NEW not in str(caught.value)
    for n in range(len(data)):
        changed = bytearray(data)
        changed[n] ^= 1
        with pytest.raises(PayloadLocked):
            codec.decode(bytes(changed))
        with pytest.raises(PayloadLocked):
            codec.decode(data[:n])


def test_it_serves_the_codec() -> None:
    codec = Codec(transform=AesGcmCodec({"k": OLD}))

    payload = codec.encode({"when": [1, None]}, "input of workflow", "f")

    assert isinstance(payload, str)
    assert "when" not in payload
    assert codec.plain(payload) == {"when": [1, None]}
    assert codec.decoder(dict[str, list[int | None]], "input", "f")(payload) == {"when": [1, None]}
    with pytest.raises(PayloadLocked):
        Codec(transform=AesGcmCodec({"k": NEW})).plain(payload)


def test_without_keys_the_ciphertext_is_shown_and_plain_values_are_read() -> None:
    payload = Codec(transform=AesGcmCodec({"k": OLD})).encode({"a": 1}, "input", "f")

    assert Codec().plain(payload) == payload
    assert Codec(transform=AesGcmCodec({"k": OLD})).plain({"b": 2}) == {"b": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are no encryption keys"),
        (OLD, "number 1 has no name"),
        (f"a:{OLD},{NEW}", "number 2 has no name"),
        ("a:???", "'a' is not base64"),
        (f"a:{OLD},a:{NEW}", "'a' is there twice"),
        ("short:" + base64.b64encode(b"16 bytes of key.").decode(), "has 16 bytes instead of 32"),
        (f"a b:{OLD}", "has no name"),
    ],
    # The keys are new ones each time.
    ids=["none", "no name", "second", "no base64", "twice", "short", "a bad name"],
)
def test_bad_keys_are_refused_without_being_shown(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AesGcmCodec(parse_keys(text))

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    for secret in (OLD, NEW, "???", "MTYgYnl0ZXM"):
        assert secret not in str(caught.value)


def test_settings_make_the_codec_and_never_show_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("keys").write_text(f"new:{NEW}\nold:{OLD}\n")
    monkeypatch.setenv("WFQ_ENCRYPTION_KEYS_FILE", "keys")

    settings = load_settings()
    payload = find_target(settings=settings).codec.encode("x", "input", "f")

    assert Codec(transform=AesGcmCodec({"new": NEW})).plain(payload) == "x"
    assert settings.origin("encryption_keys_file") == "WFQ_ENCRYPTION_KEYS_FILE"
    for text in (repr(settings), str(settings.shown()), repr(AesGcmCodec({"k": OLD}))):
        assert NEW not in text
        assert OLD not in text
    monkeypatch.setenv("WFQ_ENCRYPTION_KEYS", f"new:{NEW}")
    with pytest.raises(ConfigurationError, match="are both set; keep one"):
        load_settings()


def test_a_codec_of_the_program_goes_before_the_settings() -> None:
    settings = load_settings(encryption_keys=f"k:{OLD}")
    own = AesGcmCodec({"k": NEW})

    payload = find_target(settings=settings, payload_codec=own).codec.encode(1, "input", "f")

    assert Codec(transform=own).plain(payload) == 1


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'wfq\[crypto\]'"):
        AesGcmCodec({"k": OLD})
