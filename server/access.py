"""Who may use the server: its keys, and whether it may listen without any."""

from __future__ import annotations

from server.bind_address import is_loopback
from server.keys.api_key import ApiKey
from server.keys.client import Enter
from server.keys.key_store import KeyStore, KeyStoreError
from server.keys.keyring import Keyring
from server.keys.static_keys import StaticKeyError, static_keys
from server.settings import Settings, SettingsError


def open_keyring(settings: Settings, enter: Enter, local: ApiKey | None = None) -> Keyring:
    """The keys of data directory, file and environment, and ``local``, which leaves an open server open.

    Raises SettingsError where they must not be served with.
    """
    try:
        static = static_keys(settings.api_key_file)
        keyring = Keyring(
            KeyStore(settings.data_dir),
            static,
            enter,
            local=local,
            is_local=is_loopback(settings.host),
            is_insecure=settings.insecure_no_auth,
        )
    except (KeyStoreError, StaticKeyError) as error:
        raise SettingsError(str(error)) from None
    if not (len(keyring) or keyring.is_local or settings.insecure_no_auth):
        raise SettingsError(
            f"not listening on {settings.host}, because whoever reaches it could use it without a key:"
            " make one with 'nibble key create NAME', or use --host 127.0.0.1, or add --insecure-no-auth"
            " (NIBBLE_INSECURE_NO_AUTH=true) where only trusted clients can reach the port"
        )
    return keyring


def idle_word(settings: Settings, keyring: Keyring) -> str | None:
    """What to warn of where ``insecure_no_auth`` does nothing, because there are keys; the mend is after the colon.

    No SettingsError: a key may be made while the server runs, and then the next start would fail.
    """
    if not (len(keyring) and settings.insecure_no_auth):
        return None
    return (
        "insecure_no_auth lets nobody in, since there are API keys:"
        " leave it out, or revoking the last of them opens the server to whoever reaches it"
    )
