"""The compiled part: the message codec and the Modbus RTU framing. All static facts live in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

EXTENSIONS = [
    Extension(f"cext.{name}", [f"cext/{name}.pyx"], extra_compile_args=["-O2"]) for name in ("message", "rtu")
]

setup(
    ext_modules=cythonize(EXTENSIONS, language_level=3, compiler_directives={"embedsignature": False}),
)
