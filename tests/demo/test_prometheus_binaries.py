from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from queuescope.demo.prometheus_binaries import installed, unpack
from queuescope.errors import DemoError


@pytest.fixture
def real() -> Path:
    """The directory of the programs on this machine."""
    found = installed(Path("/nonexistent"))
    assert found is not None, "the tests need prometheus and promtool on PATH"
    return found.prometheus.parent


# Of a package that contains the names of its programs.
_UNPACKS = """mkdir -p "$3/usr/bin"
for program in $(cat "$2"); do
  echo '#!/bin/sh' > "$3/usr/bin/$program" && chmod +x "$3/usr/bin/$program"
done
"""


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}", "utf-8")
    path.chmod(0o755)


def test_an_installed_pair_is_used_and_runs(real: Path) -> None:
    for program in ("prometheus", "promtool"):
        subprocess.run([real / program, "--version"], check=True, capture_output=True)


def test_what_was_unpacked_earlier_is_used(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "bin").symlink_to(real)
    monkeypatch.setenv("PATH", "/nonexistent")
    found = installed(tmp_path)
    assert found is not None
    assert found.promtool == (real / "promtool").resolve()


def test_prometheus_without_promtool_does_not_count(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prometheus").symlink_to(real / "prometheus")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed(tmp_path / "nothing") is None


def test_without_apt_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DemoError, match=r"Prometheus is not installed; install it"):
        unpack(tmp_path / "unpacked")


@pytest.mark.parametrize(
    "packages",
    [{"prometheus": "prometheus promtool"}, {"prometheus": "prometheus", "promtool": "promtool"}],
    ids=["in one package", "in two packages"],
)
def test_both_programs_come_from_the_packages_of_the_distribution(
    packages: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = "".join(f"{name}) echo {programs} ;;\n" for name, programs in packages.items())
    write_program(
        tmp_path / "apt-get",
        f'[ "$1" = download ] || exit 100\ncase $2 in\n{has}*) exit 100 ;;\nesac > "$2_1.deb"\n',
    )
    write_program(tmp_path / "dpkg", _UNPACKS)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    unpack(tmp_path / "unpacked")
    unpacked = {path.name for path in (tmp_path / "unpacked" / "usr" / "bin").iterdir()}
    assert unpacked == {"prometheus", "promtool"}


def test_package_lists_that_the_system_lacks_are_fetched_once_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = tmp_path / "fetched"
    write_program(
        tmp_path / "apt-get",
        f"""for package; do :; done
case "$*" in
  download*) exit 100 ;;
  *update) echo once >> {fetched} ;;
  *download*) echo $package > ${{package}}_1.deb ;;
esac
""",
    )
    write_program(tmp_path / "dpkg", _UNPACKS)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    unpack(tmp_path / "unpacked")
    assert fetched.read_text("utf-8") == "once\n"


def test_the_program_prints_where_the_pair_is(real: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "queuescope.demo.prometheus_binaries", str(tmp_path)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == str(real)
