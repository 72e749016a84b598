"""The image of a kind node, which kind otherwise pulls: Debian, containerd, and Kubernetes' programs and images.

It is put together as kind's own Dockerfile does (images/base), with kind's own files out of its Go module. What
differs is said where it is done; most of it is that Debian's containerd 1.6 and cgroups without systemd's driver have
to do here. The images that kubeadm asks for are made of the Go-module binaries and lie in the image already.
"""

import json
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from tests.cluster.kind.archive import write_image
from tests.cluster.kind.artefacts import made
from tests.cluster.kind.debian import bootstrap, pack
from tests.cluster.tools.build import DEFAULT_KUBERNETES, RECIPES, go, tools_directory, version_flags

NAME = "localhost/stowage-node:latest"
PAUSE = "registry.k8s.io/pause:3.10"
COREDNS_TAG, ETCD_TAG = "v1.14.2", "3.6.14-0"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "containerd", "runc", "iptables", "nftables", "conntrack", "iproute2"),
    *("ethtool", "kmod", "mount", "util-linux", "procps", "socat", "ebtables", "jq", "ca-certificates", "curl"),
    "containernetworking-plugins",
)
# Debian's containerd knows ptp only by a configuration of its own; kind's network plugin is an image we do not have.
CNI = {
    "cniVersion": "0.3.1",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni-ipam-state",
                "routes": [{"dst": "0.0.0.0/0"}],
                "ranges": [[{"subnet": "{{.PodCIDR}}"}]],
            },
            "mtu": 1500,
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
CONTAINERD = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # There is no cgroup controller for huge pages here, and a score below our own is refused.
  tolerate_missing_hugetlb_controller = true
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
  discard_unpacked_layers = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
  conf_template = "/etc/containerd/cni.json.template"
"""
STORAGE_CLASS = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
provisioner: kubernetes.io/no-provisioner
"""
# What kube-proxy calls, and libm, without which nft fails and a Service silently gets one endpoint only.
KUBE_PROXY_PROGRAMS = ("iptables", "ip6tables", "iptables-save", "iptables-restore", "ip6tables-save")
KUBE_PROXY_PROGRAMS += ("ip6tables-restore", "nft", "conntrack")
PROGRAMS_LIMIT_SECONDS = 300.0


def node_image() -> Path:
    """The node image as an archive that podman loads, made where it is missing."""
    tools, kind_tools = tools_directory(), tools_directory(kind=True)
    parts = [str(tools.parent.name), str(kind_tools.parent.name), json.dumps(PACKAGES), json.dumps(CNI), CONTAINERD]
    sources = [Path(__file__), *(Path(__file__).with_name(f"{name}.py") for name in ("archive", "debian"))]
    return made("node.tar", [*parts, *sources], _make)


def kubernetes_version() -> str:
    """Such as v1.36.3."""
    flag = next(
        each for each in version_flags(RECIPES / "kubernetes" / DEFAULT_KUBERNETES) if "version.gitVersion=" in each
    )
    return flag.rpartition("=")[2]


def _make(archive: Path) -> None:
    work = archive.parent
    root = work / "root"
    bootstrap(root, PACKAGES)
    _install_kind_files(root)
    _trim_units(root)
    _install_programs(root)
    _configure(root)
    _preload(root, _component_images(root, work / "images"))
    layer = work / "layer.tar"
    pack(root, layer)
    shutil.rmtree(root)
    entrypoint = ("/usr/local/bin/entrypoint", "/sbin/init")
    write_image(archive, NAME, layer, entrypoint, {"container": "docker"}, "SIGRTMIN+3")
    layer.unlink()


def _kind_module() -> Path:
    answer = go(RECIPES / "kind", "mod", "download", "-json", "sigs.k8s.io/kind")
    return Path(json.loads(answer.stdout)["Dir"])


def _install_kind_files(root: Path) -> None:
    files = _kind_module() / "images" / "base" / "files"
    for source in sorted(path for path in files.rglob("*") if path.is_file()):
        relative = source.relative_to(files)
        if relative.parts[0] == "LICENSES":
            continue
        target = root / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if "bin" in relative.parts else 0o644)
    unit = root / "etc/systemd/system/containerd.service"
    unit.write_text(unit.read_text().replace("/usr/local/bin/containerd", "/usr/bin/containerd"))


def _trim_units(root: Path) -> None:
    """As kind's Dockerfile: nothing starts but what a node needs."""
    wants = [
        *root.glob("etc/systemd/system/*.wants/*"),
        *root.glob("lib/systemd/system/multi-user.target.wants/*"),
        *root.glob("lib/systemd/system/local-fs.target.wants/*"),
        *root.glob("lib/systemd/system/sockets.target.wants/*udev*"),
        *root.glob("lib/systemd/system/sockets.target.wants/*initctl*"),
        *root.glob("lib/systemd/system/basic.target.wants/*"),
        *root.glob("lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service"),
    ]
    for link in wants:
        link.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")
    chroot(root, "systemctl", "enable", "kubelet.service", "containerd.service", "undo-mount-hacks.service")
    chroot(root, "systemctl", "mask", "systemd-binfmt.service")


def _install_programs(root: Path) -> None:
    kind_tools = tools_directory(kind=True)
    for name in ("kubeadm", "kubelet", "kubectl"):
        shutil.copy2(kind_tools / name, root / "usr/bin" / name)


def _configure(root: Path) -> None:
    (root / "etc/kubernetes/manifests").mkdir(parents=True)
    (root / "etc/containerd/config.toml").write_text(CONTAINERD.format(pause=PAUSE))
    (root / "etc/containerd/cni.json.template").write_text(json.dumps(CNI, indent=2))
    (root / "etc/cni/net.d").mkdir(parents=True, exist_ok=True)
    (root / "kind/version").write_text(kubernetes_version())
    manifests = root / "kind/manifests"
    manifests.mkdir(parents=True)
    # No volumes are provisioned, but kind wants a class to create.
    (manifests / "default-storage.yaml").write_text(STORAGE_CLASS)


def _component_images(root: Path, folder: Path) -> list[Path]:
    """An archive for each image that kubeadm or containerd will ask for."""
    folder.mkdir()
    tools, kind_tools, version = tools_directory(), tools_directory(kind=True), kubernetes_version()
    programs = {
        f"registry.k8s.io/kube-apiserver:{version}": tools / "kube-apiserver",
        f"registry.k8s.io/kube-scheduler:{version}": tools / "kube-scheduler",
        f"registry.k8s.io/kube-controller-manager:{version}": kind_tools / "kube-controller-manager",
        f"registry.k8s.io/etcd:{ETCD_TAG}": tools / "etcd",
        f"registry.k8s.io/coredns/coredns:{COREDNS_TAG}": kind_tools / "coredns",
        f"registry.k8s.io/kube-proxy:{version}": kind_tools / "kube-proxy",
        PAUSE: _build_pause(folder),
    }
    archives = []
    for name, program in programs.items():
        layer, archive = folder / "layer.tar", folder / f"{program.name}.tar"
        with tarfile.open(layer, "w") as tar:
            tar.add(program, f"usr/local/bin/{program.name}", filter=_owned_by_root)
            if program.name == "kube-proxy":
                _add_packet_filters(tar, root)
        path = f"/usr/local/bin/{program.name}"
        entrypoint = () if program.name == "etcd" else (path,)
        write_image(archive, name, layer, entrypoint, {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
        layer.unlink()
        archives.append(archive)
    return archives


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def _build_pause(folder: Path) -> Path:
    """A program that waits to be ended and buries its orphans, as Kubernetes' pause does."""
    source = folder / "pause.go"
    source.write_text(
        "package main\n"
        'import ("os"; "os/signal"; "syscall")\n'
        "func main() {\n"
        "\tsignals := make(chan os.Signal, 8)\n"
        "\tsignal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)\n"
        "\tfor received := range signals {\n"
        "\t\tif received != syscall.SIGCHLD { os.Exit(0) }\n"
        "\t\tfor { if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 { break } }\n"
        "\t}\n"
        "}\n"
    )
    answer = go(folder, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / "pause"), str(source))
    if answer.returncode != 0:
        raise RuntimeError(f"pause could not be built:\n{answer.stderr}")
    return folder / "pause"


def _add_packet_filters(tar: tarfile.TarFile, root: Path) -> None:
    """iptables, nft and conntrack with the libraries and plugins that they load, out of the node itself.

    On the node many of them are links to links; here every name is the file itself.
    """
    programs = [f"/usr/sbin/{name}" for name in KUBE_PROXY_PROGRAMS]
    libraries = chroot(root, "sh", "-c", f"ldd {' '.join(programs)}")
    files = {*programs, "/lib/x86_64-linux-gnu/libm.so.6", "/etc/protocols"}
    files |= {word for word in libraries.split() if word.startswith("/") and not word.endswith(":")}
    plugins = "/usr/lib/x86_64-linux-gnu/xtables"
    files |= {f"{plugins}/{plugin.name}" for plugin in (root / plugins.lstrip("/")).iterdir()}
    names = sorted(files)
    real = chroot(root, "realpath", *names).splitlines()
    for name, target in zip(names, real, strict=True):
        tar.add(root / target.lstrip("/"), name.lstrip("/"), filter=_owned_by_root)
    for folder in ("run", "tmp", "var/lib", "lib/modules"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)


def _preload(root: Path, archives: list[Path]) -> None:
    """Put images into the node's containerd, by running the machine's own with its data there."""
    # A socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ctr") as short:
        socket = f"{short}/s"
        configuration = Path(short) / "config.toml"
        configuration.write_text(
            'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'root = "{root}/var/lib/containerd"\nstate = "{short}/state"\n[grpc]\naddress = "{socket}"\n'
        )
        with (Path(short) / "log").open("wb") as log:
            containerd = subprocess.Popen(["containerd", "--config", configuration], stdout=log, stderr=log)
        try:
            _wait_for_containerd(socket)
            for archive in archives:
                ctr(socket, "images", "import", "--no-unpack", str(archive))
        finally:
            containerd.terminate()
            containerd.wait(30)


def _wait_for_containerd(socket: str) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            ctr(socket, "version")
            return
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def ctr(socket: str, *arguments: str) -> None:
    """Call containerd's client."""
    command = ["ctr", "--address", socket, "--namespace", "k8s.io", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=PROGRAMS_LIMIT_SECONDS)


def chroot(root: Path, *command: str) -> str:
    """Run a program of the node's in the node's folder."""
    answer = subprocess.run(
        ["chroot", str(root), *command], check=True, capture_output=True, text=True, timeout=PROGRAMS_LIMIT_SECONDS
    )
    return answer.stdout
