"""Name the packages: setuptools cannot derive them from a mapping of top-level folders."""

from setuptools import find_namespace_packages, setup

FOLDERS = ("toolkit", "api", "schedulers", "sbatch_templates")

packages = ["lading"]
for folder in FOLDERS:
    packages.append(f"lading.{folder}")
    packages += [f"lading.{folder}.{name}" for name in find_namespace_packages(folder)]

setup(packages=[name for name in packages if "__pycache__" not in name])
