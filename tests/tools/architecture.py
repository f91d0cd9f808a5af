"""Reads a package's imports and sizes, without running it, and says what breaks the rules of a `Layout`."""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The rules, as data. Names are those of modules within the package: `hub`, `dialects.base`."""

    package: str
    levels: tuple[frozenset[str], ...]
    """The top-level modules and folders, lowest first: an import goes down."""
    sealed: frozenset[int] = frozenset()
    """Levels whose members do not see each other, and in whose folders the files do not either."""
    interfaces_only: frozenset[int] = frozenset()
    """Levels that see of a folder with a `base` only that."""
    common: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What the files of a folder on a sealed level share beside their `base`."""
    pure: frozenset[str] = frozenset()
    """Where nothing of `io` is imported."""
    io: frozenset[str] = frozenset()
    """Modules that do input or output; with each, those below it."""
    programs: frozenset[str] = frozenset()
    """Folders written as users write: of the rest they import the public names, from the package itself."""
    required: frozenset[str] = frozenset()
    """Third-party packages that are always there."""
    optional: frozenset[str] = frozenset()
    """Third-party packages that one file each may import."""
    table: str = "the table of levels"
    """Where a new module is entered, for the message."""


@dataclass(frozen=True)
class Import:
    module: str
    """Who imports: `hub`, `dialects.base`; an empty string is the package's own __init__."""
    line: int
    target: str
    """Within the package: as `module`. Outside: the full name."""
    inside: bool

    def __str__(self) -> str:
        return f"{self.module or '__init__'}:{self.line} imports {self.target or 'the package itself'}"


class Source:
    """The modules of a package and every import that they hold, wherever it stands in the file."""

    def __init__(self, folder: Path, package: str) -> None:
        self.package = package
        self.files = {_module_name(path, folder): path for path in sorted(folder.rglob("*.py"))}
        self.imports = list(dict.fromkeys(found for module in self.files for found in self._imports_of(module)))

    def tops(self) -> set[str]:
        return {module.partition(".")[0] for module in self.files if module}

    def inside(self) -> list[Import]:
        return [found for found in self.imports if found.inside]

    def outside(self) -> list[Import]:
        return [found for found in self.imports if not found.inside]

    def _imports_of(self, module: str) -> Iterator[Import]:
        tree = ast.parse(self.files[module].read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield self._import(module, node.lineno, alias.name)
            elif isinstance(node, ast.ImportFrom):
                start = self._absolute(module, node)
                for alias in node.names:
                    yield self._import(module, node.lineno, f"{start}.{alias.name}")

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = [self.package, *filter(None, module.split("."))]
        if self.files[module].name == "__init__.py":
            here.append("__init__")
        return ".".join([*here[: len(here) - node.level], *filter(None, [node.module])])

    def _import(self, module: str, line: int, name: str) -> Import:
        if name != self.package and not name.startswith(f"{self.package}."):
            return Import(module, line, name, inside=False)
        target = name.removeprefix(self.package).removeprefix(".")
        while target and target not in self.files:  # a name within a module, or a folder without __init__
            target = target.rpartition(".")[0]
        return Import(module, line, target, inside=True)


def _module_name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unknown_modules(source: Source, layout: Layout) -> Iterator[str]:
    """A module without a level, which every other rule would overlook."""
    for top in sorted(source.tops() - set().union(*layout.levels)):
        yield f"{top} has no level: add it to {layout.table}, as low as what it imports allows"


def wrong_directions(source: Source, layout: Layout) -> Iterator[str]:
    """Imports that go up, sideways, or behind an interface. One for types only obeys the same order."""
    level_of = {name: level for level, names in enumerate(layout.levels) for name in names}
    for found in source.inside():
        here, there = (name.partition(".")[0] for name in (found.module, found.target))
        if not found.module or here not in level_of:
            continue
        if here in layout.programs:
            if found.target and here != there:
                yield f"{found}: {here} sees the package as its users do, by its public names"
        elif not found.target:
            yield f"{found}: import from the module that defines the name"
        elif here == there:
            if level_of[here] in layout.sealed and not _shared(found, layout):
                yield f"{found}: files of one folder see only its base, and what `common` lists"
        elif there in level_of:
            complaint = _complaint(found, level_of[here], level_of[there], source, layout)
            if complaint:
                yield f"{found}: {complaint}"


def _complaint(found: Import, here: int, there: int, source: Source, layout: Layout) -> str | None:
    folder, _, rest = found.target.partition(".")
    if there > here:
        return f"level {here} does not see level {there}"
    if there == here and here in layout.sealed and rest != "base":
        return f"members of level {here} do not see each other"
    if here in layout.interfaces_only and f"{folder}.base" in source.files and rest != "base":
        return f"level {here} sees interfaces only, {folder}.base"
    return None


def _shared(found: Import, layout: Layout) -> bool:
    """Whether a file may see another one of its own folder."""
    here, there = found.module.split("."), found.target.split(".")
    if len(here) == 1:  # the folder's __init__ sees all of it
        return True
    # A folder within the folder is free within itself.
    return len(there) > 1 and there[1] in {"base", here[1], *layout.common.get(here[0], ())}


def cycles(source: Source, layout: Layout) -> Iterator[str]:
    """Modules that import each other, in any number of steps; then folders that do."""
    edges = {(found.module, found.target) for found in source.inside() if found.module}
    yield from _loops(edges)
    tops = {(here.partition(".")[0], there.partition(".")[0]) for here, there in edges}
    yield from _loops({(here, there) for here, there in tops if here != there})


def _loops(edges: set[tuple[str, str]]) -> Iterator[str]:
    """Each loop once, by its alphabetically first member."""
    after: dict[str, list[str]] = {}
    for here, there in sorted(edges):
        after.setdefault(here, []).append(there)
    seen: set[frozenset[str]] = set()
    for start in sorted(after):
        path = _way_back(start, after)
        if path and frozenset(path) not in seen:
            seen.add(frozenset(path))
            yield "cycle: " + " -> ".join(path)


def _way_back(start: str, after: Mapping[str, list[str]]) -> list[str] | None:
    """The shortest way from a module to itself."""
    ways, visited = [[start]], {start}
    for way in ways:
        for step in after.get(way[-1], ()):
            if step == start:
                return [*way, start]
            if step not in visited:
                visited.add(step)
                ways.append([*way, step])
    return None


def impure_modules(source: Source, layout: Layout) -> Iterator[str]:
    """Input and output where there is to be none."""
    for found in source.outside():
        top = found.module.partition(".")[0]
        if {found.module, top} & layout.pure and any(f"{found.target}.".startswith(f"{name}.") for name in layout.io):
            yield f"{found}: {top} does no I/O"


def stray_packages(source: Source, layout: Layout) -> Iterator[str]:
    """Third-party packages that nobody declared, and optional ones that more than one file imports."""
    users: dict[str, set[str]] = {}
    for found in source.outside():
        package = found.target.partition(".")[0]
        if package in sys.stdlib_module_names or package in layout.required:
            continue
        if package not in layout.optional:
            yield f"{found}: {package} is neither a dependency nor an extra in pyproject.toml"
        users.setdefault(package, set()).add(found.module)
    for package, modules in sorted(users.items()):
        if len(modules) > 1:
            yield f"{package} is optional: one file imports it, not {', '.join(sorted(modules))}"


def long_files(files: list[Path], limit: int) -> Iterator[str]:
    for path in files:
        lines = len(path.read_text().splitlines())
        if lines >= limit:
            yield f"{path}: {lines} lines, a file stays under {limit}"


def long_functions(files: list[Path], limit: int) -> Iterator[str]:
    """Functions of `limit` lines or more, from `def` to the end, the docstring not counted."""
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node, clean=False) else 0)
                if lines >= limit:
                    yield f"{path}:{node.lineno} {node.name}: {lines} lines, a function stays under {limit}"


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


RULES = (unknown_modules, wrong_directions, cycles, impure_modules, stray_packages)
