"""Builds the C++ core with CMake; all else about the package is in pyproject.toml.

CMAKE_ARGS is handed to CMake as it is. Nothing is downloaded.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """One extension, pygpt._core, built by CMakeLists.txt into where setuptools wants it."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        build.mkdir(parents=True, exist_ok=True)
        options = [
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja') or ''}",
            f"-DPYGPT_VERSION={self.distribution.get_version()}",
            f"-DCMAKE_INSTALL_PREFIX={target}",
            "-DCMAKE_BUILD_TYPE=" + ("Debug" if self.debug else "Release"),
        ]
        # --fresh: pip builds in a new environment each time; a cached path into the last one leads nowhere.
        # The objects stay.
        extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
        self.run_cmake("--fresh", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *options, *extra)
        self.run_cmake("--build", str(build))
        self.run_cmake("--install", str(build))

    def run_cmake(self, *arguments: str) -> None:
        try:
            subprocess.run(["cmake", *arguments], check=True)
        except FileNotFoundError:
            raise SystemExit("pygpt needs CMake to build its core: pip install cmake ninja") from None
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                f"building pygpt's core failed (exit code {error.returncode}); the compiler's words are above"
            ) from None


setup(ext_modules=[Extension("pygpt._core", sources=[])], cmdclass={"build_ext": CMakeBuild})
