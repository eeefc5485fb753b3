"""How a door and the leader on another machine find out that both may read the database, and whom the door speaks for.

    door → leader    MAGIC, a nonce
    leader → door    a nonce, and its proof
    door → leader    its proof, and the address of the client, which the proof covers

A proof is an HMAC over both nonces by the key in the database, so nothing that was heard on the way is good for anything a second
time. Behind it the connection is the client's. Over TLS the proofs cover the certificate of the leader, too: so the key says whose that
is, no authority need have signed it, and who stands between the two with another one is found out. Without TLS the link belongs on
the network that the database is on.
"""

import hmac
import secrets

import trio

from bunqueue_trio.config import CLIENT_KEY_MAX

MAGIC = b"bunqueue door 1\n"
_NONCE = 16
_PROOF = 32


class Distrusted(Exception):
    """The other side does not know the key, or speaks something else."""


async def prove_door(stream: trio.abc.Stream, key: bytes, address: str, certificate: bytes = b"") -> None:
    """Do the door's part, for a client at ``address``; ``certificate`` is the fingerprint of what the other side has shown.

    Raises:
        Distrusted: this is no leader of ours. It has learnt nothing of the client.
        trio.BrokenResourceError: it is gone.
    """
    ours = secrets.token_bytes(_NONCE)
    await stream.send_all(MAGIC + ours)
    said = await _exactly(stream, _NONCE + _PROOF)
    nonces = ours + said[:_NONCE] + certificate
    if not hmac.compare_digest(said[_NONCE:], _proof(key, b"leader", nonces)):
        raise Distrusted("it does not know the key")
    client = address.encode("utf-8", "replace")[:CLIENT_KEY_MAX]
    await stream.send_all(_proof(key, b"door", nonces + client) + bytes([len(client)]) + client)


async def admit_door(stream: trio.abc.Stream, key: bytes, certificate: bytes = b"") -> str:
    """Do the leader's part; return the address of the client. ``certificate`` is the fingerprint of what it has shown.

    Raises:
        Distrusted: this is no door of ours.
        trio.BrokenResourceError: it is gone.
    """
    said = await _exactly(stream, len(MAGIC) + _NONCE)
    if not said.startswith(MAGIC):
        raise Distrusted("it speaks something else")
    ours = secrets.token_bytes(_NONCE)
    nonces = said[len(MAGIC) :] + ours + certificate
    await stream.send_all(ours + _proof(key, b"leader", nonces))
    said = await _exactly(stream, _PROOF + 1)
    if said[_PROOF] > CLIENT_KEY_MAX:
        raise Distrusted("it says too much")
    client = await _exactly(stream, said[_PROOF])
    if not hmac.compare_digest(said[:_PROOF], _proof(key, b"door", nonces + client)):
        raise Distrusted("it does not know the key")
    return client.decode("utf-8", "replace")


def _proof(key: bytes, who: bytes, about: bytes) -> bytes:
    return hmac.digest(key, who + about, "sha256")


async def _exactly(stream: trio.abc.Stream, size: int) -> bytes:
    """Return ``size`` bytes, and leave what follows them."""
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise trio.BrokenResourceError("the other side has ended")
        data += more
    return data
