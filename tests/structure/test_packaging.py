"""What is built and installed: one package, with all its code and data, and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
NOT_PRODUCT = {"tests", "benchmarks", "docs", "build", "dist"}
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".*_cache", ".venv", ".build", ".hypothesis", "__pycache__", "*.egg-info"
)


def is_product(path):
    parts = path.relative_to(CHECKOUT).parts
    return not any(
        part in NOT_PRODUCT or part.startswith(".") or part.endswith((".egg-info", "__pycache__"))
        for part in parts
    )


def package_folders():
    return sorted(path.parent for path in CHECKOUT.rglob("__init__.py") if is_product(path))


def package_name(folder):
    return ".".join(["plan_execute", *folder.relative_to(CHECKOUT).parts])


def data_files():
    """Give the files of the packages that are not code; those at the root belong to the project."""
    files = [CHECKOUT / "py.typed"]
    for folder in (top for top in CHECKOUT.iterdir() if (top / "__init__.py").exists() and is_product(top)):
        files += [path for path in folder.rglob("*") if path.is_file() and is_product(path)]
    return sorted(path for path in files if path.suffix != ".py")


def settings():
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_pyproject_lists_every_package_and_no_other():
    assert sorted(settings()["packages"]) == sorted(map(package_name, package_folders()))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build sdist, and the wheel from the sdist, of a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "any-name 1"
    shutil.copytree(CHECKOUT, source, ignore=LEFT_BEHIND)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel_names(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


def test_the_wheel_has_one_top_level_name(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"plan_execute"}


def test_the_wheel_holds_every_module_and_data_file_and_no_test(wheel_names):
    code = [path for folder in package_folders() for path in folder.glob("*.py")]
    expected = {"plan_execute/" + path.relative_to(CHECKOUT).as_posix() for path in [*code, *data_files()]}
    assert {name for name in wheel_names if name.startswith("plan_execute/")} == expected


def test_the_sdist_has_one_folder_with_what_the_wheel_is_made_from(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
    assert {name.split("/")[0] for name in names} == {sdist.name.removesuffix(".tar.gz")}
    inside = {name.split("/", 1)[1] for name in names}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "state.py",
        "py.typed",
        "models/prompts/planner.md",
    } <= inside


def test_the_wheel_runs_from_a_folder_that_has_modules_of_the_same_names(built, tmp_path):
    """A user's own state.py must not be taken for ours, nor ours for theirs."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "state.py").write_text("raise SystemExit('the wrong state')\n")
    code = (
        "import sys; sys.path.insert(0, 'site'); import plan_execute; "
        "print(plan_execute.create_plan_execute_agent(None).name, plan_execute.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    name, path = done.stdout.split(maxsplit=1)
    assert (name, Path(path.strip())) == ("plan_execute", tmp_path / "site/plan_execute/__init__.py")
