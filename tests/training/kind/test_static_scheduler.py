"""What becomes of kubeadm's manifest of kube-scheduler when it is to ask the extender."""

from pathlib import Path

import yaml

from training.kind.static_scheduler import CONFIGURATION, asking

MANIFEST = """
kind: Pod
spec:
  containers:
    - name: kube-scheduler
      command: [kube-scheduler, --kubeconfig=/etc/kubernetes/scheduler.conf, --leader-elect=true]
      volumeMounts:
        - {name: kubeconfig, mountPath: /etc/kubernetes/scheduler.conf, readOnly: true}
  volumes:
    - {name: kubeconfig, hostPath: {path: /etc/kubernetes/scheduler.conf, type: FileOrCreate}}
"""


def test_it_reads_the_charts_configuration() -> None:
    (container,) = yaml.safe_load(asking(MANIFEST))["spec"]["containers"]
    assert container["command"][:3] == yaml.safe_load(MANIFEST)["spec"]["containers"][0]["command"]
    assert container["command"][-1] == f"--config={CONFIGURATION}"


def test_the_file_is_mounted_beside_what_was_there() -> None:
    pod = yaml.safe_load(asking(MANIFEST))["spec"]
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {"kubeconfig": "/etc/kubernetes/scheduler.conf", "stowage": CONFIGURATION}
    assert [volume["name"] for volume in pod["volumes"]] == ["kubeconfig", "stowage"]


def test_the_page_says_what_is_added() -> None:
    page = (Path(__file__).parents[3] / "docs" / "install.md").read_text().split("```yaml\n")[1].split("```")[0]
    said = yaml.safe_load(page)["spec"]
    before, after = (yaml.safe_load(text)["spec"] for text in (MANIFEST, asking(MANIFEST)))
    (told,), (old,), (new,) = (spec["containers"] for spec in (said, before, after))
    assert told["command"] == new["command"][len(old["command"]) :]
    assert told["volumeMounts"] == new["volumeMounts"][len(old["volumeMounts"]) :]
    assert said["volumes"] == after["volumes"][len(before["volumes"]) :]
