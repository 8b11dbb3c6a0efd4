# SPDX-License-Identifier: Apache-2.0
"""One exception class a result code; the numbers and names come from the library."""
from . import _core


class Error(Exception):
    """An operating error: `code` is the name ("not_found"), `text` says what and where."""

    code = "unknown"
    number = None  # of the C interface

    def __init__(self, text):
        super().__init__(text)
        self.text = text

    def __str__(self):
        return f"{self.text} [{self.code}]"


def _make_classes():
    """NotFoundError for "not_found", and so on: code number -> class."""
    classes = {}
    for number in range(1, 256):
        name = _core.code_name(number)
        if name == "unknown":
            break
        title = "".join(part.capitalize() for part in name.split("_"))
        title += "" if title.endswith("Error") else "Error"
        what = {"code": name, "number": number, "__module__": "blockbridge"}
        classes[number] = type(title, (Error,), what)
    return classes


_classes = _make_classes()
globals().update({cls.__name__: cls for cls in _classes.values()})
__all__ = ["Error"] + [cls.__name__ for cls in _classes.values()]


def error_from(code, text):
    """The exception for a code of the C interface."""
    return _classes.get(code, Error)(text)


_core.set_error_factory(error_from)
