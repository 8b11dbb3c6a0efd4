# SPDX-License-Identifier: Apache-2.0
"""Planted violations for source_rules.py: each rule must find its own and leave good text alone."""

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
LONG_BODY = "  x();\n" * 80
ABSOLUTE = "/wo" + "rk/"  # in two parts, or this file would break the rule itself

# (name, path, text, words that the finding must contain; None: nothing)
CASES = [
    ("a lower layer", "libblockbridge/raid/a.cc", '#include "io/device.h"\n', None),
    (
        "an upper layer",
        "libblockbridge/io/a.cc",
        '#include "raid/array.h"\n',
        "may not include raid",
    ),
    (
        "a layer in brackets",
        "libblockbridge/base/a.h",
        "#include <io/x.h>\n",
        "may not include io",
    ),
    (
        "a long spelling",
        "libblockbridge/io/a.cc",
        '#include "libblockbridge/raid/array.h"\n',
        "may not include raid",
    ),
    (
        "the simulator seen from a driver",
        "libblockbridge/raid/a.cc",
        '#include "sim/net.h"\n',
        "may not include sim",
    ),
    ("an unknown folder", "libblockbridge/new/a.cc", "", "not in the table"),
    ("the public interface", "programs/a/main.cc", "#include <blockbridge/bb.hpp>\n", None),
    (
        "internals in an example",
        "examples/a/main.cc",
        '#include "io/device.h"\n',
        "may not include io",
    ),
    ("a benchmark of internals", "bench/a.cc", '#include "io/device.h"\n', None),
    (
        "pure, of base",
        "libblockbridge/raid/p.h",
        '// pure: no I/O\n#include "base/status.h"\n',
        None,
    ),
    (
        "pure, of a driver",
        "libblockbridge/raid/p.h",
        '// pure: x\n#include "io/reactor.h"\n',
        "which is not pure",
    ),
    (
        "pure, of a clock",
        "libblockbridge/raid/p.h",
        "// pure: x\n#include <chrono>\n",
        "<chrono>",
    ),
    (
        "pure, with a coroutine",
        "libblockbridge/raid/p.h",
        "// pure: x\nvoid f() { co_await g(); }\n",
        "co_await",
    ),
    (
        "pure, words in a comment",
        "libblockbridge/raid/p.h",
        "// pure: x\n// co_await is not ours\n",
        None,
    ),
    (
        "a clock outside io",
        "libblockbridge/raid/a.cc",
        "auto t = std::chrono::steady_clock::now();\n",
        "steady_clock",
    ),
    ("a thread outside io", "libblockbridge/backplane/a.cc", "std::thread t;\n", "std::thread"),
    (
        "a syscall outside io",
        "libblockbridge/raid/a.cc",
        "int n = ::read(fd, p, 1);\n",
        "::read(",
    ),
    (
        "a member called read",
        "libblockbridge/raid/a.cc",
        "int n = Array::read(fd, p, 1);\n",
        None,
    ),
    ("a syscall in io", "libblockbridge/io/a.cc", "int n = ::read(fd, p, 1);\n", None),
    ("a long file", "libblockbridge/io/a.cc", "int a;\n" * 601, "lines, and 600"),
    (
        "a long function",
        "libblockbridge/io/a.cc",
        "void f(int a) {\n" + LONG_BODY + "}\n",
        "function f has 82 lines",
    ),
    (
        "a long method",
        "libblockbridge/io/a.h",
        "namespace bb {\nclass A final {\n public:\n"
        "  int g() const {\n" + LONG_BODY + "  }\n};\n}\n",
        "function g has",
    ),
    (
        "a long constructor",
        "libblockbridge/io/a.cc",
        "A::A(int x)\n    : a_{x},\n      b_(x) {\n" + LONG_BODY + "}\n",
        "lines, and 70",
    ),
    (
        "a long template",
        "libblockbridge/io/a.h",
        "template <class T, class U>\nT g(U u) {\n" + LONG_BODY + "}\n",
        "function g has",
    ),
    (
        "a long class of short methods",
        "libblockbridge/io/a.h",
        "class A {\n" + "  int f() { return 1; }\n" * 90 + "};\n",
        None,
    ),
    (
        "a long table",
        "libblockbridge/io/a.cc",
        "const int t[] = {\n" + "  1,\n" * 90 + "};\n",
        None,
    ),
    (
        "a brace in a string",
        "libblockbridge/io/a.cc",
        'void f() { x("{"); }\n' + "int a;\n" * 90,
        None,
    ),
    ("a wide line", "libblockbridge/io/a.cc", "// " + "x" * 98 + "\n", "101 columns"),
    ("no licence", "libblockbridge/io/bare.cc", "int a;\n", "SPDX"),
    ("no licence in a script", "tests/bare.py", "#!/usr/bin/python3\nimport os\n", "SPDX"),
    ("a path of one machine", "docs/a.md", f"see {ABSOLUTE}main\n", "folder of one machine"),
    ("a path that only looks so", "docs/a.md", f"see ~/net{ABSOLUTE}main\n", None),
]


def run(folder, rules):
    failures = 0
    for name, path, text, wanted in CASES:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text if "bare" in path or path.endswith(".md") else SPDX + text)
        found = rules.check(folder)
        file.unlink()
        good = not found if wanted is None else any(wanted in line for line in found)
        if not good:
            failures += 1
            print(
                f"self-test: {name}: expected {wanted or 'nothing'}, found {found or 'nothing'}"
            )
    print(f"self-test: {len(CASES)} cases, {failures} failures")
    return 1 if failures else 0
