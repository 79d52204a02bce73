"""Each ISA's object exports one symbol, so that no linker can give its code to callers on another machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a compiler adds by itself: GCC's pointer to the handler of exceptions, alike in every object.
BY_THE_COMPILER = re.compile(r"^DW\.ref\.")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build tree of the core, configured, in which nothing is built yet."""
    for tool in ("cmake", "nm", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: the objects of the ISAs cannot be built and looked into")
    if not (ROOT / "CMakeLists.txt").is_file():
        pytest.skip("the source tree is missing")
    folder = tmp_path_factory.mktemp("build")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", ROOT, "-B", folder, *generator, "-DPYGPT_PYTHON=OFF", "-DCMAKE_BUILD_TYPE=Release")
    return folder


def isas(build: Path) -> list[str]:
    """The ISAs that CMake compiles for on this processor, best first."""
    return re.findall(r"PYGPT_ISA\((\w+)\)", (build / "generated" / "isa_list.h").read_text())


def test_each_isa_exports_one_symbol(build: Path) -> None:
    names = isas(build)
    assert names[-1] == "generic"
    for name in names:
        run("cmake", "--build", build, "--target", f"pygpt_isa_{name}")
        (folder,) = build.rglob(f"pygpt_isa_{name}.dir")
        (compiled,) = folder.rglob("table.cpp.o*")
        listed = run("nm", "--defined-only", "-g", compiled).splitlines()
        symbols = {line.split()[-1].lstrip("_") for line in listed if line.strip() and not line.endswith(":")}
        assert {symbol for symbol in symbols if not BY_THE_COMPILER.match(symbol)} == {
            f"pygpt_kernels_{name}"
        }


def test_every_isa_header_is_compiled_somewhere() -> None:
    headers = {path.stem for path in (ROOT / "csrc" / "kernels" / "cpu" / "isa").glob("*.h")}
    assert headers == set(
        re.findall(r"^\s*add_isa\((\w+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    )
