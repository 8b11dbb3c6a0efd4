#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A unit of many files must find what clang-tidy finds in each of them alone."""
import contextlib
import io
import pathlib
import tempfile

import tidy

MOVED = """#include <string>
#include <utility>
namespace {
std::string take(std::string text) { return text; }
}  // namespace
std::string twice(std::string text);
std::string twice(std::string text) { return take(std::move(text)) + text; }
"""
NULL = """namespace {
int answer(const int* at) { return at == nullptr ? *at : 42; }
}  // namespace
int question();
int question() { return answer(nullptr); }
"""
CLEAN = "int clean();\nint clean() { return 0; }\n"
UNFIT = "int clean();\nint clean() { return 1; }\n"  # defines what another file defines


def findings(folder, texts):
    files = []
    for name, text in texts.items():
        files.append(pathlib.Path(folder, "libblockbridge", name))
        files[-1].write_text(text)
    unit = tidy.Unit(pathlib.Path(folder), ["-std=c++20"], files, set())
    with contextlib.redirect_stdout(io.StringIO()):
        text, alone = tidy.check(unit, "key", pathlib.Path(folder))
    remembered = pathlib.Path(folder, "key")
    assert remembered.exists() == (not text), "what has findings is not remembered"
    remembered.unlink(missing_ok=True)
    return text, alone


def main():
    assert tidy.hidden_names(MOVED) == {"take"}, tidy.hidden_names(MOVED)
    command = (
        "ccache clang++-19 -DONE -include-pch a.pch -include vector -MD -MQ a.o -MF a.o.d"
        " -o a.o -c a.cc -O2"
    )
    assert tidy.arguments_of({"command": command}) == ["-DONE", "-O2"], "what files share"
    assert tidy.hidden_names("#define ONE 1\nint visible() {\n  int local = 0;\n}\n") == {"ONE"}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "libblockbridge").mkdir()
        assert findings(folder, {"a.cc": CLEAN}) == ("", 0)
        text, alone = findings(folder, {"a.cc": CLEAN, "b.cc": MOVED, "c.cc": NULL})
        assert alone == 0, "the unit compiles"
        for place, check in ("b.cc:7:", "use-after-move"), ("c.cc:2:", "core.NullDereference"):
            assert any(place in line and check in line for line in text.splitlines()), text
        text, alone = findings(folder, {"a.cc": CLEAN, "b.cc": UNFIT})
        assert (text, alone) == ("", 2), "files that do not fit together are checked alone"
        text, alone = findings(folder, {"a.cc": CLEAN, "b.cc": UNFIT, "c.cc": NULL})
        assert alone == 3 and "core.NullDereference" in text, text
    print("clang-tidy finds the same in units")


if __name__ == "__main__":
    main()
