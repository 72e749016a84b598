"""Makes the certificate anew that the chart made, while half of its time is left: what the chart's CronJob runs.

    python -m extender.renewal --secret stowage-tls --namespace stowage --name stowage.stowage.svc \
        --authority /etc/stowage/authority --days 365

The CA that kube-scheduler trusts signs again, so nothing has to be told to anybody; the extender takes over the new
files. Helm owns the Secret's fields, and an upgrade or a rollback must find no other owner: they are applied in the
name of whoever did before.
"""

import argparse
import base64
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import client, config

# Annotations of the Secret; templates/tls.yaml writes them too.
ISSUED = "stowage.dev/issued"  # Unix seconds
DAYS = "stowage.dev/days"  # that it was issued for, whatever new ones are
SECONDS_A_DAY = 86400
OPENSSL_LIMIT_SECONDS = 60.0
APPLY = "application/apply-patch+yaml"
EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""
LONGEST_COMMON_NAME = 64  # RFC 5280, ub-common-name; names are compared with subjectAltName only


class RenewalError(Exception):
    """No certificate could be made; the message says why."""


class Issued(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


def issue(authority: Path, names: Sequence[str], days: int) -> Issued:
    """A certificate for a server, with a key of its own (ECDSA P-256).

    Args:
        authority: folder with the CA's tls.crt and tls.key.
        names: DNS names; the first one is also its common name.
        days: how long it is to be valid.

    Raises:
        RenewalError: openssl is missing or refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        key, request, extensions, made = (Path(folder) / name for name in ("key", "request", "extensions", "made"))
        extensions.write_text(EXTENSIONS.format(names=", ".join(f"DNS:{name}" for name in names)))
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", key)
        _openssl("req", "-new", "-key", key, "-subj", f"/CN={names[0][:LONGEST_COMMON_NAME]}", "-out", request)
        _openssl(
            *("x509", "-req", "-sha256", "-in", request, "-out", made, "-days", str(days), "-extfile", extensions),
            *(
                "-CA",
                authority / "tls.crt",
                "-CAkey",
                authority / "tls.key",
                "-set_serial",
                f"0x{secrets.token_hex(15)}",
            ),
        )
        # Without its last line break, as helm writes it: an upgrade then leaves the Secret as it is.
        return Issued(made.read_bytes(), key.read_bytes().rstrip())


def is_due(secret: dict[str, Any], days: int, now: float) -> bool:
    """Whether half of the certificate's time has passed.

    Args:
        secret: as the API server has it.
        days: how long it is valid where the Secret does not say so.
        now: Unix seconds.
    """
    annotations = secret["metadata"].get("annotations") or {}
    return now - int(annotations.get(ISSUED, 0)) >= int(annotations.get(DAYS, days)) * SECONDS_A_DAY / 2


def renewed(secret: dict[str, Any], issued: Issued, days: int, now: float) -> dict[str, Any]:
    """The Secret with another certificate, as whoever applied it would write it."""
    metadata = secret["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if key in metadata}
    kept["annotations"] = {**(kept.get("annotations") or {}), ISSUED: str(int(now)), DAYS: str(days)}
    certificate, key = (base64.b64encode(part).decode() for part in issued)
    data = {**secret["data"], "tls.crt": certificate, "tls.key": key}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": kept, "type": secret["type"], "data": data}


def owner(secret: dict[str, Any]) -> str:
    """Who applied the certificate; helm where nobody did, as with releases of helm 3, which asks for no owner."""
    for entry in secret["metadata"].get("managedFields") or []:
        data = (entry.get("fieldsV1") or {}).get("f:data", {})
        if entry.get("operation") == "Apply" and "f:tls.crt" in data:
            return str(entry["manager"])
    return "helm"


def renew(
    api: client.CoreV1Api, name: str, namespace: str, authority: Path, names: Sequence[str], days: int, now: float
) -> bool:
    """Renew the certificate in a Secret if it is time; returns whether it was.

    Args:
        api: whose rights are enough to read that Secret and to change it.
        name: of the Secret.
        namespace: of the Secret.
        authority: folder with the CA's tls.crt and tls.key.
        names: that the certificate is for.
        days: that a certificate is valid.
        now: Unix seconds.

    Raises:
        RenewalError: no certificate could be made.
    """
    secret = api.api_client.sanitize_for_serialization(api.read_namespaced_secret(name, namespace))
    if not is_due(secret, days, now):
        return False
    changed = renewed(secret, issue(authority, names, days), days, now)
    api.patch_namespaced_secret(name, namespace, changed, field_manager=owner(secret), force=True, _content_type=APPLY)
    return True


def main(arguments: Sequence[str]) -> int:
    """Command line; 1 where no certificate could be made, with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m extender.renewal", description="Renews the chart's certificate.")
    parser.add_argument("--secret", required=True, help="with the certificate: tls.crt, tls.key, ca.crt")
    parser.add_argument("--namespace", required=True, help="of the Secret")
    parser.add_argument("--name", required=True, action="append", help="DNS name that it is for; may be repeated")
    parser.add_argument("--authority", required=True, type=Path, help="folder with the CA's tls.crt and tls.key")
    parser.add_argument("--days", required=True, type=int, help="that a certificate is valid")
    given = parser.parse_args(arguments)
    config.load_incluster_config()  # type: ignore[no-untyped-call]
    api = client.CoreV1Api()
    try:
        done = renew(api, given.secret, given.namespace, given.authority, given.name, given.days, time.time())
    except RenewalError as error:
        print(f"{given.secret}: {error}", file=sys.stderr)
        return 1
    left = "more than half of the certificate's time is left"
    print(f"{given.secret}: {f'renewed for {given.days} days' if done else left}")
    return 0


def _openssl(*arguments: str | Path) -> None:
    command = ["openssl", *(str(argument) for argument in arguments)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=OPENSSL_LIMIT_SECONDS)
    except FileNotFoundError as error:
        raise RenewalError("the image has no openssl, which signs certificates") from error
    if answer.returncode != 0:
        raise RenewalError(f"openssl {arguments[0]} failed: {answer.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
