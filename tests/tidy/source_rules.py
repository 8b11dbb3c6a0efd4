#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rules of the house that a compiler does not: layers, purity, sizes, licence, words.

usage: source_rules.py [--self-test]

A rule is a function (path, text, tree) -> list of (line, message). The self-test plants violations
of each rule, and snippets that must pass, so that a rule which cannot fail any more is noticed.
"""
import pathlib
import re
import sys
import tempfile

import tree as project

# Layer -> what it may include of ours, by the first folder of the include. Arrows point down only.
LAYERS = ["base", "io", "raid", "cluster", "backplane"]
ALLOWED = {name: set(LAYERS[: index + 1]) for index, name in enumerate(LAYERS)}
ALLOWED["sim"] = {*LAYERS, "sim"}  # simulated drives and networks for everything above io
ALLOWED["capi"] = {*LAYERS, "capi", "blockbridge"}
OUTSIDE = ("programs", "examples", "bench", "bindings")
# Files outside libblockbridge/ that may see internals, with the reason: path prefix -> folders.
OUTSIDE_EXCEPTIONS = {
    # A benchmark of an internal layer has no public interface to measure through.
    "bench/": {"base", "io", "raid"},
    # Until the C ABI covers what the daemons need; then these rows go.
    "programs/": {"base", "io", "raid", "cluster", "backplane"},
}

# Function name or file -> why it may be longer. Empty is how it should stay.
LONG_FUNCTIONS: dict[str, str] = {}
LONG_FILES: dict[str, str] = {}
# File -> why it may hold a clock, a thread or a syscall outside io/.
SYSTEM_CALLS: dict[str, str] = {}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70
MAX_COLUMNS = 100

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
PURE = re.compile(r"^// pure:")
SYSTEM = re.compile(
    r"steady_clock|system_clock|std::random_device|std::thread|gettimeofday"
    r"|(?<![\w:])::read\(|(?<![\w:])::write\("
)
IMPURE = re.compile(r"\bco_await\b|\bstd::thread\b|\bclock_gettime\b|\bgetrandom\b|\brand\(")
IMPURE_HEADERS = re.compile(
    r"^(sys/(?!uio\.h|types\.h)|netinet/|arpa/|linux/|liburing"
    r"|unistd\.h|fcntl\.h|poll\.h|pthread\.h|time\.h"
    r"|ctime$|chrono$|thread$|mutex$|future$|condition_variable$|random$|coroutine$)"
)
# Folders of one machine have no place in what we publish. Written so that this file passes.
MACHINE_PATHS = re.compile(r"(?<![\w.$}-])/(?:work|root)/")


def blank_comments_and_strings(text):
    """Same length and lines, with comments and literals blanked, so that braces can be counted."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
        re.S,
    )
    return pattern.sub(blanked, text)


def blanked(match):
    return re.sub(r"[^\n]", " ", match.group())


def includes(text):
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2).removeprefix("libblockbridge/")


def layer_of(path):
    return path.parts[1] if path.parts[0] == "libblockbridge" and len(path.parts) > 2 else None


def rule_layers(path, text, tree):
    layer = layer_of(path)
    ours = set(ALLOWED) | {"blockbridge"}
    if layer is not None:
        if layer not in ALLOWED:
            return [(1, f"folder {layer} is not in the table of layers of this test")]
        allowed = ALLOWED[layer]
    elif path.parts[0] in OUTSIDE:
        allowed = {"blockbridge"}
        for prefix, folders in OUTSIDE_EXCEPTIONS.items():
            if path.as_posix().startswith(prefix):
                allowed = allowed | folders
    else:
        return []
    who, listed = layer or path.parts[0], " ".join(sorted(allowed))
    return [
        (line, f"{who} may not include {name} (allowed: {listed})")
        for line, _, name in includes(text)
        if name.split("/")[0] in ours - allowed and not (tree / path.parent / name).exists()
    ]


def is_pure(text):
    return any(PURE.match(line) for line in text.splitlines()[:10])


def rule_pure(path, text, tree):
    if layer_of(path) is None or not is_pure(text):
        return []
    found = []
    for line, quoted, name in includes(text):
        header = tree / "libblockbridge" / name
        if quoted and not name.startswith("base/"):
            if not header.exists() or not is_pure(header.read_text()):
                found.append((line, f"a pure file may not include {name}, which is not pure"))
        elif not quoted and IMPURE_HEADERS.match(name):
            found.append((line, f"a pure file may not include <{name}>"))
    return found + matches(IMPURE, text, "a pure file may not use {}")


def matches(pattern, text, message):
    clean = blank_comments_and_strings(text)
    return [
        (number, message.format(match.group()))
        for number, line in enumerate(clean.splitlines(), 1)
        for match in pattern.finditer(line)
    ]


def rule_system_calls(path, text, tree):
    del tree
    if layer_of(path) in (None, "io") or path.as_posix() in SYSTEM_CALLS:
        return []
    return matches(SYSTEM, text, "{} belongs in libblockbridge/io")


def rule_file_length(path, text, tree):
    del tree
    lines = text.count("\n")
    if lines <= MAX_FILE_LINES or path.as_posix() in LONG_FILES:
        return []
    return [(lines, f"{lines} lines, and {MAX_FILE_LINES} is the limit")]


def functions(text):
    """(name, first line, length) of each outermost function body, found by counting braces."""
    clean = blank_comments_and_strings(text)
    clean = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blanked, clean, flags=re.M)  # macros
    stack, head_start, line = [], 0, 1
    for index, char in enumerate(clean):
        if char == "\n":
            line += 1
        elif char == "{":
            head = clean[head_start:index]
            outermost = all(kind == "scope" for kind, _, _ in stack)
            kind = kind_of_block(head) if outermost else "inner"
            stack.append((kind, line, name_of(head)))
        elif char == "}" and stack:
            kind, first, name = stack.pop()
            if kind == "function":
                yield name, first, line - first + 1
        if char in ";{}":
            head_start = index + 1


def kind_of_block(head):
    head = re.sub(
        r"template\s*<[^{}]*?>(?=\s*(?:class|struct|union|requires|\w))", " ", head
    ).strip()
    if re.search(r"\)[^()=]*$", head) and not re.match(
        r"(class|struct|union|enum)\b(?!.*\w\s*\()", head
    ):
        return "function"
    if re.search(r"\b(namespace|class|struct|union|enum|extern)\b", head):
        return "scope"
    return "initializer"


def name_of(head):
    match = re.search(r"([~\w:]+)\s*\(", head)
    return match.group(1) if match else "?"


def rule_function_length(path, text, tree):
    del tree
    return [
        (line, f"function {name} has {length} lines, and {MAX_FUNCTION_LINES} is the limit")
        for name, line, length in functions(text)
        if length > MAX_FUNCTION_LINES and f"{path.as_posix()}:{name}" not in LONG_FUNCTIONS
    ]


def rule_columns(path, text, tree):
    del path, tree
    return [
        (number, f"{len(line)} columns, and {MAX_COLUMNS} is the limit")
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > MAX_COLUMNS and "://" not in line  # an address cannot be broken
    ]


def rule_licence(path, text, tree):
    del path, tree
    first = [line for line in text.splitlines()[:3] if not line.startswith("#!")][:1]
    if first and first[0].lstrip('/*#;.\\" ').startswith("SPDX-License-Identifier: Apache-2.0"):
        return []
    return [(1, "the first line must be the comment SPDX-License-Identifier: Apache-2.0")]


def rule_machine_paths(path, text, tree):
    del path, tree
    return [
        (number, f"names a folder of one machine: {match.group()}")
        for number, line in enumerate(text.splitlines(), 1)
        for match in MACHINE_PATHS.finditer(line)
    ]


CODE_RULES = [rule_layers, rule_pure, rule_system_calls, rule_file_length, rule_function_length,
              rule_columns, rule_licence]  # fmt: skip
SCRIPT_RULES = [rule_file_length, rule_columns, rule_licence]
SCRIPTS = {".py", ".sh", ".build"}
NO_LICENCE_LINE = {"meson.options", "meson_options.txt"}


def rules_for(path):
    if path.suffix in project.CODE:
        return [*CODE_RULES, rule_machine_paths]
    if path.suffix in SCRIPTS or path.name in {"dev", "run"}:
        return [*SCRIPT_RULES, rule_machine_paths]
    return [rule_machine_paths]


def check(root):
    found = []
    for path in project.tracked_files(root):
        data = (root / path).read_bytes()
        if b"\0" in data:  # a picture, a corpus file: not text
            continue
        text = data.decode("utf-8", errors="replace")
        for rule in rules_for(path):
            found += [f"{path}:{line}: {message}" for line, message in rule(path, text, root)]
    return found


def main():
    if "--self-test" in sys.argv:
        import source_rules_cases

        with tempfile.TemporaryDirectory() as folder:
            sys.exit(source_rules_cases.run(pathlib.Path(folder), sys.modules[__name__]))
    found = check(project.ROOT)
    print("\n".join(found) if found else "source rules: nothing found")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
