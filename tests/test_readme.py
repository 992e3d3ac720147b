"""README's Python runs and prints what README shows."""

import re
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest

import varprop as vp

README = Path(__file__).parents[1] / "README.md"


def without_numbers(report):
    return re.sub(r"\s+", " ", re.sub(r"-?\d[\d.]*", "#", report))


def test_the_code_prints_what_the_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python)?\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    shown = 0
    for (kind, code), (after, report) in pairwise([*blocks, ("", "")]):
        if kind != "python" or ("torch" in code and find_spec("torch") is None):
            continue
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)
        if "torch" in code:  # whose last digits differ from release to release
            assert without_numbers(printed.getvalue()) == without_numbers(report)
        elif printed.getvalue() or after != "python":
            assert printed.getvalue() == report
            shown += 1
    assert shown == 2
    assert (tmp_path / "he_relu.png").stat().st_size > 10_000


def test_the_readme_names_every_activation():
    assert ", ".join(vp.activations.NAMES) in README.read_text().replace("\n", " ")


def test_the_readme_shows_the_table_of_gains():
    assert f"```\n{vp.gain_table()}\n```" in README.read_text()


@pytest.mark.parametrize("picture", re.findall(r"\]\((docs/images/.*?)\)", README.read_text()))
def test_pictures_are_there(picture):
    assert (README.parent / picture).exists()
