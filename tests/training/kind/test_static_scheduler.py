"""What becomes of kubeadm's manifest of kube-scheduler when it is to ask the extender."""

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
SETTINGS = "kind: KubeSchedulerConfiguration\nextenders: [{urlPrefix: https://10.96.200.200:8888}]\n"


def test_it_reads_the_charts_configuration_with_its_own_kubeconfig() -> None:
    manifest, configuration = asking(MANIFEST, SETTINGS)
    (container,) = yaml.safe_load(manifest)["spec"]["containers"]
    assert container["command"][:3] == yaml.safe_load(MANIFEST)["spec"]["containers"][0]["command"]
    assert container["command"][-1] == f"--config={CONFIGURATION}"
    # With a configuration file kube-scheduler takes its kubeconfig from there.
    assert yaml.safe_load(configuration) == {
        **yaml.safe_load(SETTINGS),
        "clientConnection": {"kubeconfig": "/etc/kubernetes/scheduler.conf"},
    }


def test_the_file_is_mounted_beside_what_was_there() -> None:
    pod = yaml.safe_load(asking(MANIFEST, SETTINGS)[0])["spec"]
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {"kubeconfig": "/etc/kubernetes/scheduler.conf", "stowage": CONFIGURATION}
    assert [volume["name"] for volume in pod["volumes"]] == ["kubeconfig", "stowage"]
