"""Lets SGLang's HiCache run on a machine without a GPU: what it imports and never calls here, and an
event of CPU streams, which have none. `import sglang_shim` comes before anything of SGLang's."""

import importlib.abc
import importlib.machinery
import sys
import types

import torch
import transformers.utils.import_utils

_NOT_HERE = ("torchvision", "sgl_kernel")


class _AnyMeta(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Any()


class _Any(metaclass=_AnyMeta):
    """Has every attribute, and may be called."""

    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Any()


class _Module(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        return _AnyMeta(name, (_Any,), {}) if name[0].isupper() else _Any()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in _NOT_HERE:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        sys.modules[module.__name__] = module


class _Event:
    """Has always happened."""

    def __init__(self, *_, **__):
        pass

    def record(self, *_):
        pass

    def wait(self, *_):
        pass

    def synchronize(self):
        pass

    def query(self):
        return True


sys.meta_path.append(_Finder())
transformers.utils.import_utils.is_torchvision_available = lambda *_, **__: False
torch.cpu.Event = _Event
