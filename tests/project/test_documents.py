"""The README and the docs: their code runs, their lists are complete, their links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET

import pytest
import typer

import forerun
from forerun.cli.app import app
from forerun.ir.verify import RULES
from tests.documents import PAGES, ROOT, blocks, environment, write_files

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = [page for page in PAGES if blocks(page, "python")]
SHELL = [page for page in PAGES if blocks(page, "sh")]
NOT_RUN = {"needs a GPU", "needs the network", "needs a model file"}


def name_of(page):
    return str(page.relative_to(ROOT))


def run(command, folder):
    options = {"cwd": folder, "env": environment(folder), "capture_output": True, "text": True, "check": False}
    return subprocess.run(command, timeout=300, **options)


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
def test_each_python_block_runs_alone(page, tmp_path):
    write_files(page, tmp_path)
    names = {}
    for block in blocks(page, "python"):
        names[block.title if block.is_file else f"pasted_{block.line}.py"] = block.line
        if not block.is_file:
            (tmp_path / f"pasted_{block.line}.py").write_text(block.code, encoding="utf-8")
    done = run([sys.executable, "-m", "tests.project.blocks_of_a_page", str(tmp_path), *names], tmp_path)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["script"] for found in told] == list(names), done.stderr
    wrong = [f"line {names[found['script']]}: {found['printed']}" for found in told if found["status"]]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", SHELL, ids=name_of)
def test_shell_commands_run_one_after_the_other(page, tmp_path):
    write_files(page, tmp_path)
    for block in blocks(page, "sh"):
        if block.title in NOT_RUN or block.is_file:
            continue
        expected = re.fullmatch(r"exit status (\d)", block.title)
        assert expected or not block.title, f"line {block.line}: a title is a file's name, a need, or an exit status"
        done = run(["bash", "-euo", "pipefail", "-c", block.code], tmp_path)
        assert done.returncode == int(expected[1] if expected else 0), f"line {block.line}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent.name != "tests" and p.name != "CONTRIBUTING.md"], ids=name_of
)
def test_commands_stand_in_fences(page):
    assert re.findall(r"^    (?:forerun|pytest|pip|python) .*", page.read_text(encoding="utf-8"), re.MULTILINE) == []


def test_the_example_of_the_readme_shows_passes_and_a_right_result(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = (block.code for block in blocks(ROOT / "README.md", "python"))
    assert len([line for line in block.splitlines() if line.strip()]) <= 20
    exec(compile(block, "README.md", "exec"), {})
    *table, last = capsys.readouterr().out.splitlines()
    names = ["fold-params", "infer-dependencies", "insert-pdl", "hoist-loads", "reduce-edges"]
    assert [line.split()[1] for line in table if line.split()[0].isdecimal() and line.split()[0] > "0"][:5] == names
    assert last == "right under an adversarial schedule: True"


def test_readme_and_ci_agree_on_the_test_command():
    command = "pip install '.[test]' && pytest -n auto"
    assert f"\n{command}\n" in README
    assert f'"{command}"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    targets = {link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link}
    assert not [link for link in targets if not (page.parent / link).exists()]


def test_every_page_of_the_docs_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md") if page.parent.name != "api"]
    assert not [page for page in pages if page != "index.md" and f"({page})" not in index]


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
