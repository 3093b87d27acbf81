"""What setup.cfg has no words for: a wheel holds what is there now, and nothing of an older build.

setuptools keeps the folder build/ between builds, and packs whatever lies in it.
"""

import shutil

from setuptools import setup
from setuptools.command.build import build


class FreshBuild(build):
    """The usual build, in an empty folder."""

    def run(self) -> None:
        """Remove what an earlier build left, then build."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build": FreshBuild})
