"""The map of the design: who may import whom, and what the core may not even know of."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HAFSM = ("hafsm.core", "hafsm.codec", "hafsm.errors", "hafsm.config", "hafsm.wire", "hafsm.checks", "hafsm.kernel")
"""Everything the daemon stands on."""

ALLOWED: dict[str, tuple[str, ...]] = {
    "hafsm/__init__.py": (),
    "hafsm/errors.py": (),
    "hafsm/core": ("hafsm.core", "hafsm.errors"),
    "hafsm/codec.py": ("hafsm.core", "hafsm.errors"),
    "hafsm/config": ("hafsm.config", "hafsm.core", "hafsm.errors"),
    "hafsm/wire": ("hafsm.wire", "hafsm.core", "hafsm.errors"),
    "hafsm/checks": ("hafsm.checks", "hafsm.core", "hafsm.config", "hafsm.errors"),
    "hafsm/kernel": ("hafsm.kernel", "hafsm.core", "hafsm.errors"),
    "hafsm/daemon": ("hafsm", *HAFSM, "hafsm.daemon", "journal"),
    "hafsm/web": ("hafsm", "hafsm.web", "journal", "replay"),
    "hafsm/cli": ("hafsm", *HAFSM, "hafsm.daemon", "hafsm.web", "hafsm.cli", "hafsm.testing", "journal", "replay"),
    "journal": ("journal",),
    "hafsm/testing.py": ("hafsm.core", "hafsm.codec", "hafsm.config", "hafsm.errors", "journal", "replay"),
    "replay": (
        *("replay", "hafsm.core", "hafsm.codec", "hafsm.config", "hafsm.errors", "journal"),
        *("hafsm.kernel.memory", "hafsm.wire"),  # the simulator's kernel and network are the daemon's own
    ),
}

CORE_LIBRARIES = {
    "__future__",
    "collections",
    "copy",
    "dataclasses",
    "enum",
    "hashlib",
    "itertools",
    "msgspec",
    "operator",
    "transitions",
    "typing",
}
"""None of these reads a clock, a random number, the environment or a file. `hashlib` is used on values only."""

FILES = sorted(p for top in ("hafsm", "journal", "replay") for p in (ROOT / top).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    relative = path.relative_to(ROOT).as_posix()
    return max((place for place in ALLOWED if relative == place or relative.startswith(place + "/")), key=len)


def within(name: str, package: str) -> bool:
    if package == "hafsm":
        return name.startswith("hafsm.__")
    return name == package or name.startswith(package + ".")


def test_the_walk_sees_the_project() -> None:
    assert len(FILES) > 40
    assert {room(path) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_map(path: Path) -> None:
    ours = [name for name in imports(path) if name.split(".")[0] in ("hafsm", "journal", "replay", "tests")]
    wrong = [name for name in ours if not any(within(name, package) for package in ALLOWED[room(path)])]
    assert wrong == []


@pytest.mark.parametrize("path", sorted((ROOT / "hafsm/core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_knows_nothing_of_the_world(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imports(path)} - CORE_LIBRARIES - {"hafsm"}
    assert foreign == set()


@pytest.mark.parametrize("path", sorted((ROOT / "hafsm/core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_never_iterates_a_set_or_opens_a_file(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "input", "print", "id", "hash", "exec", "eval"}, node.lineno
        iterated = node.iter if isinstance(node, ast.For | ast.comprehension) else None
        assert not isinstance(iterated, ast.Set | ast.SetComp), "the order of a set is not the same everywhere"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_outgrows_an_afternoon(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
