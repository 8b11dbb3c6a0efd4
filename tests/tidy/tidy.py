# SPDX-License-Identifier: Apache-2.0
"""clang-tidy over libblockbridge/ and programs/, many source files in one run.

Nearly all time of clang-tidy on one of our files goes into the standard headers below it. A unit
that includes several files, of whatever targets, walks through these once, which makes a run over
the whole tree ten times shorter, so that `./dev test` has the minutes for it. The static analyzer
knows units by the name UnifiedSource: it follows all paths in what these include. Files that hide
the same name in an anonymous namespace go into different units, and the files of a unit that does
not compile are run one by one, so that no finding is the unit's own.
"""
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess

import tree

FOLDERS = ("libblockbridge/", "programs/")
UNIT_FILES = 20  # more would leave one of two cores idle at the end
# What names this one file, and what precompiles headers: with these a missing include goes unseen.
DROPPED = {"-o", "-c", "-MF", "-MQ", "-include", "-include-pch", "-Xclang"}
INCLUDE_FOLDERS = ("libblockbridge", "include", "programs", ".")
DECLARED = re.compile(
    r"(?:^(?:#\s*define|class|struct|union|enum(?: class)?|using|constexpr [\w:<>, ]*?)\s+(\w+))"
    r"|(?:\b(\w+)\s*(?:\[\w*\])?\s*(?:=|\{|\())",
    re.M,
)


@dataclasses.dataclass
class Unit:
    folder: pathlib.Path
    arguments: list
    files: list
    names: set


def hidden_names(text):
    """What a file declares for itself: macros and all at the left of its anonymous namespaces."""
    names = set(re.findall(r"^(?:\s*#\s*define|int(?= main\())\s+(\w+)", text, re.M))
    text = re.sub(r'"(?:\\.|[^"\\\n])*"|//(?! namespace$).*$', "", text, flags=re.M)
    for body in re.findall(r"^namespace \{$(.*?)^\}  // namespace$", text, re.M | re.S):
        for line in re.findall(r"^\w.*$", body, re.M):  # not indented: no member, no local
            names.update(name for pair in DECLARED.findall(line) for name in pair if name)
    return names


def arguments_of(entry):
    """The flags of a compile command that do not name its file."""
    words = shlex.split(entry["command"])
    words = words[next(i for i, word in enumerate(words) if word.startswith("-")) :]
    kept, skip = [], False
    for word in words:
        if not skip and word not in DROPPED and word != "-MD":
            kept.append(word)
        skip = word in DROPPED
    return kept


def units(build):
    """All files once, in units that hide no name twice, with the flags of all targets together:
    these differ in folders and definitions that do not get into each other's way."""
    entries, arguments = {}, {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = (pathlib.Path(entry["directory"]) / entry["file"]).resolve()
        if file in entries or not file.is_relative_to(tree.ROOT):
            continue
        if file.relative_to(tree.ROOT).as_posix().startswith(FOLDERS):
            entries[file] = entry
            arguments.update(dict.fromkeys(arguments_of(entry)))
    found = []
    for file in entries:
        names = hidden_names(file.read_text())
        for unit in found:
            if len(unit.files) < UNIT_FILES and not unit.names & names:
                unit.files.append(file)
                unit.names |= names
                break
        else:
            found.append(Unit(build.resolve(), list(arguments), [file], names))
    return sorted(found, key=lambda unit: -len(unit.files))


def closure(file, seen):
    """The file and all headers of ours that it includes, directly or not."""
    if file in seen or not file.is_file():
        return
    seen.add(file)
    for name in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', file.read_text(), re.M):
        for folder in [file.parent] + [tree.ROOT / name for name in INCLUDE_FOLDERS]:
            closure(folder / name, seen)


def key_of(unit):
    """A hash of all that can change the result."""
    seen = set()
    for file in unit.files:
        closure(file, seen)
    digest = hashlib.sha256(" ".join(unit.arguments).encode())
    digest.update((tree.ROOT / ".clang-tidy").read_bytes())
    for path in sorted(seen):
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def run_tidy(file, unit, *options):
    options = ["--quiet", f"--config-file={tree.ROOT / '.clang-tidy'}", *options]
    done = subprocess.run(
        ["clang-tidy-19", *options, str(file), "--", *unit.arguments],
        cwd=unit.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def check(unit, key, cache):
    """(findings as text, how many files were run alone); remembered if there are none."""
    source = cache / f"UnifiedSource-{key}.cc"
    source.write_text("".join(f'#include "{file}"\n' for file in unit.files))
    code, text = run_tidy(source, unit, "--checks=-bugprone-suspicious-include")
    source.unlink()
    texts, alone = [text] if code else [], 0
    if "[clang-diagnostic-error" in text:
        runs = [run_tidy(file, unit) for file in unit.files]
        texts, alone = [text for code, text in runs if code], len(runs)
    if not texts:
        (cache / key).touch()
    return "\n".join(texts), alone


def clang_tidy(build):
    """(findings as text, what to say about the run)"""
    cache = build.resolve() / "tidy-cache"
    cache.mkdir(exist_ok=True)
    all_units = [(unit, key_of(unit)) for unit in units(build)]
    todo = [(unit, key) for unit, key in all_units if not (cache / key).exists()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda one: check(*one, cache), todo))
    count = sum(len(unit.files) for unit, _ in all_units)
    checked = sum(len(unit.files) for unit, _ in todo)
    alone = sum(files for _, files in results)
    note = f"{checked} of {count} files in {len(todo)} units, {alone} of them alone"
    return "\n".join(text for text, _ in results if text), note
