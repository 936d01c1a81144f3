"""The vault's keys: what credentials are sealed with before they reach the database.

Fernet (AES-128-CBC and HMAC-SHA256, github.com/fernet/spec) by several keys at once: the first
seals, each opens, so that keys are changed without a moment in which something cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from syncd.config import Config, content
from syncd.errors import ConfigError
from syncd.model import Secret

KEY_FILE = "vault.key"
KEY_FILE_MAX_BYTES = 4096

WHERE = "[vault] keys"


class Vault:
    """Seals texts and opens them; without keys it does neither, and says what to do."""

    def __init__(self, keys: Sequence[Secret] = ()) -> None:
        """Take keys, the newest first: 32 bytes in URL-safe base64, as `new_key` makes them.

        Raises: `ConfigError` where one is no key.
        """
        fernets = [_fernet(key, n) for n, key in enumerate(keys)]
        self._fernet = MultiFernet(fernets) if fernets else None

    @property
    def usable(self) -> bool:
        """Return whether there is a key."""
        return self._fernet is not None

    def seal(self, text: str, *, owner: str) -> bytes:
        """Return a text as it may be stored; it opens for the same owner only.

        `owner` names the row, so that a sealed value that was copied into another row is of no use.

        Raises: `ConfigError` where no key is configured.
        """
        return self._open().encrypt(f"{owner}\0{text}".encode())

    def reveal(self, sealed: bytes, *, owner: str) -> Secret:
        """Open what was sealed.

        Raises: `ConfigError` where no key opens it, or it was sealed for another owner.
        """
        fernet = self._open()
        try:
            whose, _, text = fernet.decrypt(sealed).decode().partition("\0")
        except InvalidToken:
            whose, text = "", ""
        if whose != owner:
            raise ConfigError(
                WHERE, f"no key opens the secret of {owner}", "give back the key it was sealed with"
            )
        return Secret(text)

    def seal_anew(self, sealed: bytes, *, owner: str) -> bytes:
        """Seal with the first key what any of them opens.

        Raises: as `reveal`.
        """
        return self.seal(self.reveal(sealed, owner=owner).reveal(), owner=owner)

    def _open(self) -> MultiFernet:
        if self._fernet is None:
            raise ConfigError(
                WHERE,
                "there are none, and a secret is to be kept in the database",
                "run `syncd credentials new-key`, and name the key in the configuration",
            )
        return self._fernet


def new_key() -> Secret:
    """Draw a key."""
    return Secret(Fernet.generate_key().decode())


def opened(config: Config) -> Vault:
    """Return the vault of a configuration.

    Where PostgreSQL runs embedded and no key is configured, one is drawn and kept in a file of mode
    0600 in the data directory: what is sealed lies beside it anyway.

    Raises: `ConfigError` where a key is none, or its file cannot be kept.
    """
    if config.vault.keys or config.database.url is not None:
        return Vault(config.vault.keys)
    path = config.daemon.data_dir / KEY_FILE
    try:
        return Vault([_kept(path)])
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError(str(path), f"cannot be kept: {why}", "mend the data_dir") from error


def _kept(path: Path) -> Secret:
    """Return the key of a file, which is made if it is not there: of several makers one wins."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".vault-") as file:  # of mode 0600
            file.write(new_key().reveal().encode())
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(file.name, path)
    found = content(path, most_bytes=KEY_FILE_MAX_BYTES)
    return Secret(found.data.decode().strip())


def _fernet(key: Secret, number: int) -> Fernet:
    try:
        return Fernet(key.reveal().strip())
    except ValueError:
        raise ConfigError(
            f"[vault] keys[{number}]",
            "no key: wanted 32 bytes in URL-safe base64",
            "run `syncd credentials new-key`",
        ) from None
