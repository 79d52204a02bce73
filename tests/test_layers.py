"""Each folder uses only what stands above it in the table of docs/architecture.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CSRC, PYGPT = ROOT / "csrc", ROOT / "pygpt"

LAYERS = ("base", "formats", "sampling", "kernels", "model", "backend", "engine", "bindings")
INTRINSICS = {"immintrin.h", "arm_neon.h"}
GENERATED = {"isa_list.h"}  # by CMake, of the names of the ISAs
OF_THE_TESTS = {"emulated/lang.h"}  # what stands in CUDA's place where a C++ compiler reads the kernels
CUDA_WORDS = re.compile(r"\b(__\w+__|__(?!builtin)[a-z]\w*|(thread|block)Idx|cuda[A-Z]\w+|atomicAdd|asm)\b")

MAY_IMPORT_TORCH = ("model.py", "train/", "checkpoints/")
MAY_PRINT = ("cli/", "repl/", "__main__.py")
# To be mended: it asks torch for the peak memory of a GPU, which the trainer could say.
IMPORTS_TORCH_STILL = {"cli/train.py"}


def includes(file: Path, brackets: str) -> list[str]:
    opening, closing = brackets
    return re.findall(
        rf"^\s*#\s*include\s*{opening}([^{closing}]+){closing}", file.read_text("utf-8"), re.MULTILINE
    )


def cpp_files() -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"})


def python_files() -> list[Path]:
    return sorted(PYGPT.rglob("*.py"))


def layer(path: str) -> int:
    return LAYERS.index(path.split("/")[0])


@pytest.mark.parametrize("file", cpp_files(), ids=lambda path: str(path.relative_to(CSRC)))
def test_a_file_includes_only_its_own_layer_and_those_above(file: Path) -> None:
    own = layer(str(file.relative_to(CSRC)))
    for included in includes(file, '""'):
        if included not in GENERATED | OF_THE_TESTS:
            assert layer(included) <= own, included
            assert (CSRC / included).is_file(), included


def test_the_folders_are_the_layers() -> None:
    assert sorted(path.name for path in CSRC.iterdir()) == sorted(LAYERS)


def test_the_model_knows_the_shapes_of_the_kernels_only() -> None:
    for file in (CSRC / "model").iterdir():
        assert {path for path in includes(file, '""') if path.startswith("kernels/")} <= {
            "kernels/cpu/table.h"
        }


def test_python_is_known_to_the_bindings_only() -> None:
    for file in cpp_files():
        foreign = [
            path for path in includes(file, "<>") if path.startswith("pybind11/") or path == "Python.h"
        ]
        assert not foreign or file.parent.name == "bindings", file


def test_kernels_know_neither_threads_nor_containers() -> None:
    """select.cpp and its header choose among kernels; they are none."""
    for file in (CSRC / "kernels").rglob("*"):
        if file.is_file() and file.stem != "select":
            assert set(includes(file, "<>")) <= {"cstddef", "cstdint", "cpuid.h", *INTRINSICS}, file


def test_the_kernels_of_one_device_do_not_know_those_of_another() -> None:
    for one, other in (("cpu", "cuda"), ("cuda", "cpu")):
        for file in (CSRC / "kernels" / one).rglob("*"):
            if file.is_file():
                assert not [path for path in includes(file, '""') if path.startswith(f"kernels/{other}/")], (
                    file
                )


def test_what_is_cuda_and_not_cpp_is_in_two_files_only() -> None:
    for file in cpp_files():
        if file.name not in ("lang.cuh", "nvidia_device.cpp"):
            code = re.sub(r"//.*", "", file.read_text("utf-8"))
            assert "cuda" not in file.relative_to(CSRC).parts or not CUDA_WORDS.search(code), file


def test_intrinsics_are_in_the_headers_of_the_isas_only() -> None:
    for file in cpp_files():
        if INTRINSICS.intersection(includes(file, "<>")):
            assert file.parent == CSRC / "kernels" / "cpu" / "isa", file


def imports(file: Path) -> Iterator[str]:
    """Every module that is imported anywhere in a file, by its first name."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def inside(file: Path, places: tuple[str, ...]) -> bool:
    return str(file.relative_to(PYGPT)).startswith(places)


def test_torch_is_imported_by_the_lecture_the_training_and_the_checkpoints_only() -> None:
    others = {
        str(file.relative_to(PYGPT))
        for file in python_files()
        if "torch" in imports(file) and not inside(file, MAY_IMPORT_TORCH)
    }
    assert others == IMPORTS_TORCH_STILL


def test_only_commands_and_the_repl_print() -> None:
    for file in python_files():
        calls = (node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call))
        names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        assert "print" not in names or inside(file, MAY_PRINT), file


def test_importing_pygpt_imports_nothing_heavy() -> None:
    code = "import sys, pygpt; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    first_names = {name.split(".")[0] for name in loaded.stdout.split()}
    assert "pygpt" in first_names
    heavy = {"torch", "tokenizers", "rich", "numpy", "jinja2", "prompt_toolkit", "matplotlib", "safetensors"}
    assert not first_names & heavy
