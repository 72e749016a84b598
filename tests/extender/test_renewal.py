"""A certificate is made anew by the same CA, for the same names, in the name of whoever owns the Secret."""

import base64
import ssl
import subprocess
from pathlib import Path

import pytest

from extender.renewal import DAYS, ISSUED, Issued, RenewalError, is_due, issue, owner, renewed
from tests.chart.handshake import shake_hands

NAMES = ("stowage.scheduling.svc", "stowage.scheduling")
DAY = 86400
SECRET = {
    "metadata": {
        "name": "stowage-tls",
        "namespace": "scheduling",
        "labels": {"app": "stowage"},
        "annotations": {ISSUED: "1000000"},
        "resourceVersion": "7",
        "managedFields": [
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {"f:tls.crt": {}}}},
            {"manager": "helm-controller", "operation": "Apply", "fieldsV1": {"f:data": {"f:tls.crt": {}}}},
        ],
    },
    "type": "kubernetes.io/tls",
    "data": {"tls.crt": "b2xk", "tls.key": "b2xk", "ca.crt": "Y2E="},
}


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A CA as the chart makes one."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=stowage-ca", "-addext", "keyUsage=critical,keyCertSign", "-days", "1"),
            *("-keyout", str(tmp_path / "tls.key"), "-out", str(tmp_path / "tls.crt")),
        ],
        check=True,
        capture_output=True,
    )
    return tmp_path


def test_the_ca_vouches_for_it_under_every_name_and_no_other(authority: Path, tmp_path: Path) -> None:
    issued = issue(authority, NAMES, 30)
    files = {"tls.crt": tmp_path / "new.crt", "tls.key": tmp_path / "new.key"}
    files["tls.crt"].write_bytes(issued.certificate)
    files["tls.key"].write_bytes(issued.key)
    trusted = (authority / "tls.crt").read_text()
    for name in NAMES:
        assert shake_hands(trusted, files, name) == NAMES[0]
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusted, files, "another.scheduling.svc")


def test_each_has_another_key_and_another_number(authority: Path) -> None:
    first, second = (issue(authority, NAMES, 30) for _ in range(2))
    assert first.key != second.key
    assert first.certificate != second.certificate


def test_a_long_name_is_no_obstacle(authority: Path) -> None:
    assert issue(authority, [f"{'a' * 60}.{'b' * 60}.svc"], 30).certificate.startswith(b"-----BEGIN CERTIFICATE")


def test_a_ca_that_is_none_is_refused_with_what_openssl_said(tmp_path: Path) -> None:
    with pytest.raises(RenewalError, match=r"(?s)openssl x509 failed: .*tls\.crt"):
        issue(tmp_path, NAMES, 30)


@pytest.mark.parametrize(("days_ago", "due"), [(0, False), (14.9, False), (15, True), (40, True)])
def test_it_is_due_after_half_of_its_time(days_ago: float, due: bool) -> None:
    assert is_due(SECRET, 30, 1000000 + days_ago * DAY) is due


@pytest.mark.parametrize(("days_ago", "due"), [(14.9, False), (15, True)])
@pytest.mark.parametrize("days", [3, 365])
def test_it_is_judged_by_the_days_that_it_was_issued_for(days: int, days_ago: float, due: bool) -> None:
    secret = {"metadata": {"annotations": {ISSUED: "1000000", DAYS: "30"}}}
    assert is_due(secret, days, 1000000 + days_ago * DAY) is due


def test_one_that_nobody_dated_is_due() -> None:
    assert is_due({"metadata": {"annotations": None}}, 30, 20 * DAY)


def test_only_the_certificate_changes_and_its_owner_stays() -> None:
    changed = renewed(SECRET, Issued(b"certificate", b"key"), 30, 2000000.5)
    assert changed["data"] == {
        "tls.crt": base64.b64encode(b"certificate").decode(),
        "tls.key": base64.b64encode(b"key").decode(),
        "ca.crt": "Y2E=",
    }
    assert changed["metadata"] == {
        "name": "stowage-tls",
        "namespace": "scheduling",
        "labels": {"app": "stowage"},
        "annotations": {ISSUED: "2000000", DAYS: "30"},
    }
    assert owner(SECRET) == "helm-controller"
    assert owner({"metadata": {}}) == "helm"
