"""The README and the docs: their Python runs, their lists are complete, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import typer

import forerun
from forerun.cli import app
from forerun.ir.verify import RULES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
TESTED_ELSEWHERE = {"writing-kernels.md", "reference-runtime.md"}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


RUN = [page for page in PAGES if python_blocks(page) and page.name not in TESTED_ELSEWHERE]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_python_blocks_run_one_after_the_other(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(python_blocks(page)), encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_readme_shows_passes_and_a_right_result(capsys):
    (block,) = python_blocks(ROOT / "README.md")
    assert len([line for line in block.splitlines() if line.strip()]) <= 20
    exec(compile(block, "README.md", "exec"), {})
    *passes, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in passes] == ["infer-dependencies", "insert-pdl", "hoist-loads", "reduce-edges"]
    assert "programmatic': 1" in passes[1]
    assert last == "right under an adversarial schedule: True"


def test_readme_and_ci_agree_on_the_test_command():
    command = "pip install '.[test]' && pytest -n auto"
    assert f"    {command}\n" in README
    assert f'"{command}"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    targets = {link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link}
    assert not [link for link in targets if not (page.parent / link).exists()]


def test_every_page_of_the_docs_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert not [page.name for page in ROOT.glob("docs/*.md") if page.name != "index.md" and page.name not in index]


def test_the_invariants_are_those_of_the_verifier():
    text = (ROOT / "docs" / "ir.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| ([A-Z]\d+) \| (.*) \|$", text, re.MULTILINE)) == RULES


def test_every_option_is_documented():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    everywhere = {"--help", "--verbose", "--json"}
    negated = {"--verify"}  # documented as --no-verify
    for name, command in group.commands.items():
        assert f"## {name}\n" in text
        options = {opt for p in command.params for opt in p.opts if opt.startswith("--")} - everywhere
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert {option for option in options - negated if option not in section} == set(), name


def test_the_picture_of_the_readme_is_real(request):
    namespace = {"__file__": str(ROOT / "docs" / "make_picture.py"), "__name__": "make_picture"}
    exec(compile((ROOT / "docs" / "make_picture.py").read_text(encoding="utf-8"), "make_picture.py", "exec"), namespace)
    drawn = namespace["draw"]()
    assert ET.fromstring(drawn).tag.endswith("svg")
    if request.config.getoption("--bless"):
        namespace["PICTURE"].write_text(drawn, encoding="utf-8")
    message = "the picture is out of date; if the change is meant: pytest tests/project --bless"
    assert namespace["PICTURE"].read_text(encoding="utf-8") == drawn, message
    assert namespace["PICTURE"].name in README


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == forerun.__version__
    assert f"({forerun.__version__})" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
