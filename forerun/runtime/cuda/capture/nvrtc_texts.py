"""The PTX of what NVRTC compiles while a session is open, by CuPy or through ``cuda.bindings``.

NVRTC hands out the PTX beside the machine code that it made of it; programs ask for the latter only. So its functions
are wrapped, in modules that are there and in those that are imported later.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from forerun.captured.graph import AssembledText
from forerun.runtime.cuda.capture.texts import FoundText, stored_digest

__all__ = ["NvrtcRecorder"]

_CUPY, _BINDINGS = "cupy_backends.cuda.libs.nvrtc", "cuda.bindings.nvrtc"


@dataclass
class NvrtcRecorder:
    """Notes texts and options of what NVRTC compiles.

    Attributes:
        texts: The PTX and its options, by the :func:`~forerun.runtime.cuda.capture.texts.stored_digest` of the code.
    """

    texts: dict[str, AssembledText] = field(default_factory=dict)
    _options: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _wrapped: list[tuple[ModuleType, str, Any]] = field(default_factory=list)

    @contextmanager
    def recording(self) -> Iterator[NvrtcRecorder]:
        """Within the block, what is compiled is noted."""
        for name in (_CUPY, _BINDINGS):
            if name in sys.modules:
                self._wrap(name, sys.modules[name])
        finder = _Finder({_CUPY: self._wrap, _BINDINGS: self._wrap})
        sys.meta_path.insert(0, finder)
        try:
            yield self
        finally:
            sys.meta_path.remove(finder)
            while self._wrapped:
                module, name, original = self._wrapped.pop()
                setattr(module, name, original)

    def found(self, image: str) -> FoundText | None:
        """The text of an image, with the assembler that is here; ``None`` if there is no text or no assembler."""
        from forerun.runtime.toolchain.locate import find_toolchain

        text, ptxas = self.texts.get(image), find_toolchain().ptxas
        if text is None or ptxas is None:
            return None
        target = next(line.split()[1] for line in text.text.splitlines() if line.startswith(".target"))
        return FoundText(text, str(ptxas.path), target.rstrip(","))

    def _wrap(self, name: str, module: ModuleType) -> None:
        if name == _CUPY:
            self._replace(module, "compileProgram", self._cupy_compile)
            self._replace(module, "getCUBIN", self._cupy_cubin(module))
        else:
            self._replace(module, "nvrtcCompileProgram", self._bindings_compile)
            self._replace(module, "nvrtcGetCUBIN", self._bindings_cubin(module))

    def _replace(self, module: ModuleType, name: str, wrap: Callable[[Any], Any]) -> None:
        original = getattr(module, name)
        self._wrapped.append((module, name, original))
        setattr(module, name, wrap(original))

    def _note(self, program: int, code: bytes, text: bytes | str) -> None:
        ptx = text if isinstance(text, str) else text.decode(errors="replace")
        options = tuple(_assembler_options(self._options.get(program, ())))
        self.texts[stored_digest(code)] = AssembledText(ptx.rstrip("\0"), options, "", "NVRTC")

    def _cupy_compile(self, original: Any) -> Any:
        def compile_program(program: Any, options: Any) -> Any:
            self._options[int(program)] = tuple(options)
            return original(program, options)

        return compile_program

    def _cupy_cubin(self, module: ModuleType) -> Callable[[Any], Any]:
        def wrap(original: Any) -> Any:
            def cubin(program: Any) -> bytes:
                code: bytes = original(program)
                self._note(int(program), code, module.getPTX(program))
                return code

            return cubin

        return wrap

    def _bindings_compile(self, original: Any) -> Any:
        def compile_program(program: Any, count: int, options: Any) -> Any:
            self._options[int(program)] = tuple(option.decode() for option in options[:count])
            return original(program, count, options)

        return compile_program

    def _bindings_cubin(self, module: ModuleType) -> Callable[[Any], Any]:
        def wrap(original: Any) -> Any:
            def cubin(program: Any, code: Any) -> Any:
                result = original(program, code)
                _, size = module.nvrtcGetPTXSize(program)
                text = b" " * (size + 2)  # one of length 0 or 1 would be Python's only one
                module.nvrtcGetPTX(program, text)
                self._note(int(program), bytes(code), text[:size])
                return result

            return cubin

        return wrap


def _assembler_options(options: Sequence[str]) -> Iterator[str]:
    """Those of NVRTC's options that it hands to its assembler."""
    rest = iter(options)
    for option in rest:
        name, _, value = option.partition("=")
        match name:
            case "-lineinfo" | "--generate-line-info":
                yield "--generate-line-info"
            case "-maxrregcount" | "--maxrregcount":
                yield f"--maxrregcount={value}"
            case "-fmad" | "--fmad":
                yield f"--fmad={value}"
            case "-Xptxas" | "--ptxas-options":
                yield from (value or next(rest, "")).replace(",", " ").split()


class _Finder(importlib.abc.MetaPathFinder):
    """Calls back when modules of some names were imported."""

    def __init__(self, watched: dict[str, Callable[[str, ModuleType], None]]) -> None:
        self.watched = watched

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """The spec that other finders have, with a loader that calls back."""
        if name not in self.watched:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self.watched[name])
                return spec  # type: ignore[no-any-return]
        return None


class _Loader(importlib.abc.Loader):
    """A loader that calls back when it is done."""

    def __init__(self, inner: Any, done: Callable[[str, ModuleType], None]) -> None:
        self.inner = inner
        self.done = done

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the other loader does."""
        found: ModuleType | None = self.inner.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader does; then call back."""
        self.inner.exec_module(module)
        self.done(module.__name__, module)
