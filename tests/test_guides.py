"""Every block of code in the README and in the guides runs, in order, as a reader would run it."""

import re
import shlex
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from vsae_fast.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def _short_training_in_a_folder_of_its_own(monkeypatch, tmp_path):
    mpl.use("Agg")
    monkeypatch.setattr("vsae_fast.presets.EPOCH_RANGE", (1, 2))
    monkeypatch.chdir(tmp_path)


def run_commands(text):
    """The lines of a block for the shell: this project's commands in this process, others are not for a test."""
    for line in text.splitlines():
        command, *arguments = shlex.split(line)
        assert command in ("vsae-fast", "pip", "make"), line
        if command == "vsae-fast":
            main(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code(page):
    blocks = BLOCK.findall(page.read_text())
    namespace = {"__name__": page.stem}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, str(page), "exec"), namespace)
        elif language == "sh":
            run_commands(text)
    if page.stem not in ("how_it_works",):
        assert any(language == "python" for language, _ in blocks)


def test_output_of_the_readme(monkeypatch, capsys):
    """The first block prints what the README says, numbers within 3 %: machines round differently."""
    monkeypatch.undo()
    blocks = BLOCK.findall(PAGES[0].read_text())
    at = next(i for i, (language, _) in enumerate(blocks) if language == "text")
    exec(compile(blocks[at - 1][1], "README.md", "exec"), {})
    expected, printed = blocks[at][1].split(), capsys.readouterr().out.split()
    assert len(printed) == len(expected)
    for got, told in zip(printed, expected, strict=True):
        try:
            assert float(got) == pytest.approx(float(told), rel=0.03, nan_ok=True)
        except ValueError:
            assert got == told


def test_every_guide_is_on_the_index():
    listed = re.findall(r"^guides/(\w+)$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in PAGES[1:])


def test_every_public_name_is_in_the_reference():
    import vsae_fast

    reference = (ROOT / "docs" / "api.md").read_text()
    modules = ("datasets", "metrics", "missingness", "plot")
    names = [name for name in vsae_fast.__all__ if name not in (*modules, "__version__")]
    names += [f"plot.{name}" for name in vsae_fast.plot.__all__]
    names += [f"datasets.{name}" for name in vsae_fast.datasets.__all__ if name not in ("Split", "UCI")]
    missing = [name for name in names if not re.search(rf"^   {re.escape(name)}$", reference, re.MULTILINE)]
    assert not missing


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
