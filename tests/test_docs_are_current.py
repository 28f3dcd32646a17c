"""The docs show the rows that run."""

from tests.generate_docs import BEGIN, END, ROOT, machines_page, with_block


def test_the_page_of_the_machines() -> None:
    assert (ROOT / "docs/state-machines.md").read_text() == machines_page(), "run python -m tests.generate_docs"


def test_the_block_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme.count(BEGIN) == readme.count(END) == 1
    assert with_block(readme) == readme, "run python -m tests.generate_docs"
