"""Puts st_simdiff_llava.pth at the top of the wheel, which pyproject.toml cannot say; everything else stands there."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPth(build_py):
    def run(self) -> None:
        super().run()
        self.copy_file("st_simdiff_llava.pth", self.build_lib)


setup(cmdclass={"build_py": BuildWithPth})
