"""Reads a package's imports, classes and sizes, without running it, and says what breaks the rules of a `Layout`.

`python -m tests.tools.architecture` prints the floors of the house and its widest fans; with `--write` it writes the
table of levels into CONTRIBUTING.md.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the house: folders and flat modules, which import from the levels below and from one another.

    apart: its members do not see each other. siblings: nor do the folders in one of them: each sees itself and what
    stands flat beside it. interfaces: folders below of which it sees only the module `base`.
    public: it sees the package as its users do, by its public names. about: for people.
    """

    names: tuple[str, ...]
    about: str
    apart: bool = False
    interfaces: tuple[str, ...] = ()
    public: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The rules, as data. Names are those of modules within the package: `hub`, `dialects.base`."""

    package: str
    levels: tuple[Level, ...]
    """Lowest first: an import goes down."""
    pure: frozenset[str] = frozenset()
    """Where nothing of `io` is imported."""
    io: frozenset[str] = frozenset()
    """Modules that do input or output; with each, those below it."""
    required: frozenset[str] = frozenset()
    """Third-party packages that are always there."""
    optional: frozenset[str] = frozenset()
    """Third-party packages that one folder, or one flat module, each may import."""
    table: str = "the table of levels"
    """Where a new module is entered, for the message."""

    def level_of(self, name: str) -> int | None:
        """The number of the level that a flat module or a folder is on."""
        return next((number for number, level in enumerate(self.levels) if name in level.names), None)


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
        self.trees = {module: ast.parse(path.read_text()) for module, path in self.files.items()}
        self.imports = list(dict.fromkeys(found for module in self.files for found in self._imports_of(module)))

    def tops(self) -> set[str]:
        return {_top(module) for module in self.files if module}

    def inside(self) -> list[Import]:
        return [found for found in self.imports if found.inside]

    def outside(self) -> list[Import]:
        return [found for found in self.imports if not found.inside]

    def _imports_of(self, module: str) -> Iterator[Import]:
        for node in ast.walk(self.trees[module]):
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


def _top(module: str) -> str:
    return module.partition(".")[0]


# ------------------------------------------------------------------------------------------------------------- rules


def unknown_modules(source: Source, layout: Layout) -> Iterator[str]:
    """A module without a level, which every other rule would overlook."""
    for top in sorted(source.tops()):
        if layout.level_of(top) is None:
            yield f"{top} has no level: add it to {layout.table}, as low as what it imports allows"


def wrong_directions(source: Source, layout: Layout) -> Iterator[str]:
    """Imports that go up, sideways, or behind an interface. One for types only obeys the same order."""
    for found in source.inside():
        here, there = layout.level_of(_top(found.module)), layout.level_of(_top(found.target))
        if not found.module or here is None:
            continue
        complaint = _complaint(found, here, there, source, layout)
        if complaint:
            yield f"{found}: {complaint}"


def _complaint(found: Import, here: int, there: int | None, source: Source, layout: Layout) -> str | None:
    level, same = layout.levels[here], _top(found.module) == _top(found.target)
    if level.public:
        public = same or not found.target or _is_public_folder(found.target, there, here, source, layout)
        return None if public else "it sees the package as its users do, by its public names"
    if not found.target:
        return "import from the module that defines the name"
    if same:
        return "folders within a folder do not see each other" if _across(found, source) else None
    if there is None:
        return None
    if there > here:
        return f"level {here} does not see level {there}"
    if there == here:
        return f"members of level {here} do not see each other" if level.apart else None
    if _top(found.target) in level.interfaces and found.target != f"{_top(found.target)}.base":
        return f"level {here} sees interfaces only, {_top(found.target)}.base"
    return None


def _is_public_folder(target: str, there: int | None, here: int, source: Source, layout: Layout) -> bool:
    """Whether a folder is public itself, and below."""
    below = there is not None and there < here and layout.levels[there].public
    return below and _is_folder(target, source)


def _across(found: Import, source: Source) -> bool:
    """Whether a folder within a folder sees another one beside it. The folder's own __init__ sees all of it."""
    here, there = found.module.split("."), found.target.split(".")
    if len(there) < 2 or not _is_folder(".".join(there[:2]), source):
        return False
    return len(here) < 2 or here[1] != there[1]


def _is_folder(module: str, source: Source) -> bool:
    return any(other.startswith(f"{module}.") for other in source.files)


def cycles(source: Source, layout: Layout) -> Iterator[str]:
    """Modules that import each other, in any number of steps; then folders that do."""
    edges = {(found.module, found.target) for found in source.inside() if found.module}
    yield from _loops(edges)
    tops = {(_top(here), _top(there)) for here, there in edges}
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


def names_that_mean_two_things(source: Source, layout: Layout) -> Iterator[str]:
    """A class name that two modules define: a reader who searches for it finds the wrong one."""
    defined: defaultdict[str, list[str]] = defaultdict(list)
    for module, tree in source.trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                defined[node.name].append(module)
    for name, modules in sorted(defined.items()):
        if len(modules) > 1:
            yield f"class {name} is defined by {', '.join(sorted(modules))}: a name belongs to one"


def impure_modules(source: Source, layout: Layout) -> Iterator[str]:
    """Input and output where there is to be none."""
    for found in source.outside():
        top = _top(found.module)
        if {found.module, top} & layout.pure and any(f"{found.target}.".startswith(f"{name}.") for name in layout.io):
            yield f"{found}: {top} does no I/O"


def stray_packages(source: Source, layout: Layout) -> Iterator[str]:
    """Third-party packages that nobody declared, and optional ones that more than one place imports."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for found in source.outside():
        package = found.target.partition(".")[0]
        if package in sys.stdlib_module_names or package in layout.required:
            continue
        if package not in layout.optional:
            yield f"{found}: {package} is neither a dependency nor an extra in pyproject.toml"
        folder = found.module.rpartition(".")[0]
        users[package].add(folder if "." in folder else found.module)  # a folder within a folder is one place
    for package, places in sorted(users.items()):
        if len(places) > 1:
            yield f"{package} is optional: one place imports it, not {', '.join(sorted(places))}"


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


RULES = (
    unknown_modules,
    wrong_directions,
    cycles,
    names_that_mean_two_things,
    impure_modules,
    stray_packages,
)


# ---------------------------------------------------------------------------------------------------------- measures


def floors(source: Source) -> dict[str, int]:
    """How high each folder or flat module stands: 1 + the highest of those that it imports. There are no cycles."""
    after: defaultdict[str, set[str]] = defaultdict(set)
    for found in source.inside():
        here, there = _top(found.module), _top(found.target)
        if here != there:
            after[here].add(there)
    known: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in known:
            known[name] = 1 + max((floor(other) for other in sorted(after[name])), default=0)
        return known[name]

    return {name: floor(name) for name in sorted({*source.tops(), ""})}


def fans(source: Source) -> dict[str, set[str]]:
    """Of each module, those that import it."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for found in source.inside():
        if found.target and found.target != found.module:
            users[found.target].add(found.module)
    return users


def table(layout: Layout) -> str:
    """The levels as a table of Markdown."""
    rows = ["| level | folders and modules | what is there |", "|---|---|---|"]
    for number, level in enumerate(layout.levels):
        names = " ".join(f"`{name}`" for name in level.names)
        rows.append(f"| {number} | {names} | {level.about} |")
    return "\n".join(rows)


BEGIN, END = "<!-- levels: python -m tests.tools.architecture --write -->\n", "\n<!-- levels end -->"


def with_table(page: str, layout: Layout) -> str:
    """A page with the table of today between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table(layout)}{END}{rest.partition(END)[2]}"


def main() -> None:
    from tests.test_architecture import LAYOUT, PACKAGE, PAGE

    if "--write" in sys.argv:
        PAGE.write_text(with_table(PAGE.read_text(), LAYOUT))
        return
    source = Source(PACKAGE, "freshet")
    by_floor: defaultdict[int, list[str]] = defaultdict(list)
    for name, floor in floors(source).items():
        by_floor[floor].append(name or "freshet")
    for floor in sorted(by_floor, reverse=True):
        print(f"{floor:3}  {' '.join(by_floor[floor])}")
    print("\nimported by most:")
    for module, users in sorted(fans(source).items(), key=lambda each: -len(each[1]))[:12]:
        print(f"{len(users):3}  {module}")


if __name__ == "__main__":
    main()
