"""A TLS handshake, to see whom a certificate convinces."""

import ssl
from pathlib import Path


def shake_hands(authority: str, files: dict[str, Path], name: str) -> str:
    """A TLS handshake in memory, as kube-scheduler does it; returns the name in the certificate."""
    client = ssl.create_default_context(cadata=authority)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files["tls.crt"], files["tls.key"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = asking.getpeercert()
    assert certificate is not None
    subject = dict(part for (part,) in certificate["subject"])
    return str(subject["commonName"])
