"""Make a release: wheel, chart and image of one version, from what is committed.

    python .ci/release.py 0.2.0 --dry-run
    python .ci/release.py 0.2.0

Everything is built in a copy of HEAD in which the version has been set, into dist/<version>/, with SHA256SUMS; then
it is looked whether each says that version. Only after that the version and the changelog's heading are written,
committed and tagged here. Nothing is pushed: the last lines say what to push. --dry-run leaves the checkout alone and
builds no image.

Exit codes: 0 done; 1 a build failed or says another version; 2 refused: the version, the changelog, or the checkout.
"""

import argparse
import datetime
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEMANTIC = re.compile(r"(\d+)\.(\d+)\.(\d+)(-(?:alpha|beta|rc)\.\d+)?")  # https://semver.org, as far as we use it
UNRELEASED = "## [Unreleased]"
BUILDERS = ("docker", "podman", "buildah")
LIMIT_SECONDS = 1800.0
SUMS, UV_LEAVES = "SHA256SUMS", ".gitignore"
# Where the version stands, and what is around it.
PLACES = {
    "pyproject.toml": (r'(?m)^version = "{}"$',),
    "Chart.yaml": (r"(?m)^version: {}$", r"(?m)^appVersion: {}$"),
    "Dockerfile": (r"stowage:{}",),
    "README.md": (r"stowage:{}",),
    "docs/install.md": (r"stowage:{}",),
    "docs/operators.md": (r"stowage:{}",),
}


class RefusedError(Exception):
    """This cannot be released; the message says why."""


class BuildError(Exception):
    """A build failed, or made something else; the message has its last lines."""


def ordered(version: str) -> tuple[int, int, int, int, str]:
    """A version as something that can be compared; a release comes after its candidates.

    Raises:
        RefusedError: it is none.
    """
    found = SEMANTIC.fullmatch(version)
    if found is None:
        raise RefusedError(f"{version!r} is no version: expected MAJOR.MINOR.PATCH, or with -rc.1 behind it")
    return int(found[1]), int(found[2]), int(found[3]), 0 if found[4] else 1, found[4] or ""


def current_version(root: Path) -> str:
    """The version that pyproject.toml says."""
    found = re.search(r'(?m)^version = "([^"]+)"$', (root / "pyproject.toml").read_text())
    if found is None:
        raise RefusedError("pyproject.toml has no version")
    return found[1]


def with_version(text: str, patterns: Sequence[str], old: str, new: str) -> str:
    """A file's text with the new version in all of its places.

    Raises:
        RefusedError: one of them is not there.
    """
    for pattern in patterns:
        place = re.compile(pattern.format(re.escape(old)))
        if place.search(text) is None:
            raise RefusedError(f"{old} does not stand where it is expected: {place.pattern}")
        text = place.sub(lambda found: found[0].replace(old, new), text)
    return text


def with_heading(changelog: str, version: str, date: datetime.date) -> str:
    """The changelog with what is unreleased under the version's heading.

    Raises:
        RefusedError: there is nothing unreleased, or the version is there already.
    """
    before, heading, after = changelog.partition(UNRELEASED + "\n")
    unreleased = after.partition("\n## [")[0]
    if not heading or not unreleased.strip():
        raise RefusedError(f"CHANGELOG.md: nothing stands below {UNRELEASED}")
    if f"## [{version}]" in changelog:
        raise RefusedError(f"CHANGELOG.md: {version} is there already")
    return f"{before}{UNRELEASED}\n\n## [{version}] - {date.isoformat()}\n{after}"


def set_version(root: Path, old: str, new: str, date: datetime.date) -> list[str]:
    """Write the version and the changelog's heading; returns the files.

    Raises:
        RefusedError: a file is not as expected; none has been changed then.
    """
    texts = {
        name: with_version((root / name).read_text(), patterns, old, new) if old != new else (root / name).read_text()
        for name, patterns in PLACES.items()
    }
    texts["CHANGELOG.md"] = with_heading((root / "CHANGELOG.md").read_text(), new, date)
    for name, text in texts.items():
        (root / name).write_text(text)
    return list(texts)


def check(root: Path, version: str, dry_run: bool) -> str:
    """Look whether the version may be released; returns the one so far.

    Raises:
        RefusedError: it may not.
    """
    old = current_version(root)
    if ordered(version) < ordered(old):
        raise RefusedError(f"{version} is below {old}")
    if run("git", "tag", "--list", f"v{version}", cwd=root):
        raise RefusedError(f"the tag v{version} is there already")
    if not dry_run and run("git", "status", "--porcelain", cwd=root):
        raise RefusedError("the checkout has changes that are not committed")
    return old


def build(root: Path, version: str, output: Path, helm: str, builder: str | None) -> list[str]:
    """Build everything from a tree in which the version has been set.

    Args:
        root: the tree.
        version: which.
        output: the folder for what is built.
        helm: the program.
        builder: of images; None builds none.

    Returns:
        names of the images.

    Raises:
        BuildError: something failed, or says another version.
    """
    output.mkdir(parents=True, exist_ok=True)
    for name in made(version):  # what a dry run, or a build that failed, has left
        (output / name).unlink(missing_ok=True)
    run(sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(output), str(root), cwd=root)
    (output / UV_LEAVES).unlink(missing_ok=True)
    run(helm, "package", str(root), "--destination", str(output), cwd=root)
    (wheel,) = output.glob("*.whl")
    (chart,) = output.glob("*.tgz")
    found = {wheel.name: version_of_wheel(wheel), chart.name: version_of_chart(chart)}
    if set(found.values()) != {python_version(version), version} and set(found.values()) != {version}:
        raise BuildError(f"expected {version} everywhere, found {found}")
    images = []
    if builder is not None:
        image = f"stowage:{version}"
        run(*image_command(builder, image, version), str(root), cwd=root)
        images.append(image)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in (wheel, chart)]
    (output / SUMS).write_text("\n".join(sums) + "\n")
    return images


def made(version: str) -> set[str]:
    """Names of the files that are built, and of what uv leaves beside them."""
    return {f"stowage-{python_version(version)}-py3-none-any.whl", f"stowage-{version}.tgz", SUMS, UV_LEAVES}


def image_command(builder: str, image: str, version: str) -> list[str]:
    """The command line of an image's build, without the folder."""
    return [builder, "build", "--tag", image, "--label", f"org.opencontainers.image.version={version}"]


def python_version(version: str) -> str:
    """A version as Python's packages write it (PEP 440)."""
    for word, letter in (("-alpha.", "a"), ("-beta.", "b"), ("-rc.", "rc")):
        version = version.replace(word, letter)
    return version


def version_of_wheel(wheel: Path) -> str:
    """What the wheel's metadata say."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        found = re.search(r"(?m)^Version: (.+)$", archive.read(name).decode())
    return found[1] if found else ""


def version_of_chart(chart: Path) -> str:
    """What the chart says of itself and of its image; both if they differ."""
    with tarfile.open(chart) as archive:
        file = archive.extractfile("stowage/Chart.yaml")
        text = file.read().decode() if file else ""
    found = dict(re.findall(r'(?m)^(version|appVersion): "?([^"\n]+)"?$', text))
    return " and ".join(dict.fromkeys(found.values()))


def run(*command: str, cwd: Path) -> str:
    """Run a program; returns what it printed.

    Raises:
        BuildError: it is not there, failed, or took too long.
    """
    try:
        answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{' '.join(command)}: {error}") from error
    if answer.returncode != 0:
        last = "\n".join((answer.stdout + answer.stderr).splitlines()[-20:])
        raise BuildError(f"{' '.join(command)} ended with {answer.returncode}:\n{last}")
    return answer.stdout.strip()


def release(root: Path, version: str, output: Path, helm: str, dry_run: bool) -> None:
    """Make the release, or try it.

    Raises:
        RefusedError: it cannot be made.
        BuildError: something failed; nothing has been changed then.
    """
    old, today = check(root, version, dry_run), datetime.date.today()
    builder = next((name for name in BUILDERS if shutil.which(name)), None)
    if builder is None and not dry_run:
        raise RefusedError(f"no {', '.join(BUILDERS)} on the PATH to build the image with")
    if shutil.which(helm) is None:
        raise RefusedError(f"{helm}: no such program, and helm packages the chart: install it, or name it by --helm")
    if importlib.util.find_spec("uv") is None:
        raise RefusedError(f"{sys.executable} has no uv, which builds the wheel: use .venv/bin/python (make install)")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "stowage"
        run("git", "clone", "--quiet", "--no-hardlinks", str(root), str(tree), cwd=root)
        set_version(tree, old, version, today)
        images = build(tree, version, output, helm, None if dry_run else builder)
    for file in sorted(output.iterdir()):
        print(f"built {file}")
    if dry_run:
        print(
            f"would build stowage:{version} by: {' '.join(image_command(builder or BUILDERS[0], 'IMAGE', version))} ."
        )
        print(f"would write {', '.join([*PLACES, 'CHANGELOG.md'])}, commit and tag v{version}")
        return
    files = set_version(root, old, version, today)
    run("git", "add", *files, cwd=root)
    run("git", "commit", "--quiet", "--message", f"Release {version}", cwd=root)
    run("git", "tag", "--annotate", f"v{version}", "--message", f"Stowage {version}", cwd=root)
    print(f"committed, and tagged v{version}; to be pushed: main, v{version}, {', '.join(images)}, {output}/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `python .ci/release.py`."""
    parser = argparse.ArgumentParser(
        prog="python .ci/release.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="MAJOR.MINOR.PATCH, or with -rc.1 behind it")
    parser.add_argument("--dry-run", action="store_true", help="build wheel and chart, change nothing here")
    parser.add_argument("--helm", default="helm", metavar="PROGRAM", help="(default: the one on the PATH)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="(default: dist/VERSION)")
    given = parser.parse_args(arguments)
    try:
        output = given.output or ROOT / "dist" / given.version
        if strangers := {file.name for file in output.glob("*")} - made(given.version):
            raise RefusedError(
                f"{output} holds {', '.join(sorted(strangers))}: remove them, or choose another --output"
            )
        release(ROOT, given.version, output, given.helm, given.dry_run)
    except RefusedError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    except BuildError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
