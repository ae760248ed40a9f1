"""The commands that documents tell people to type: the parsers of the commands themselves take them."""

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from constellation.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "deploy/README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.M | re.S)
INLINE = re.compile(r"`(constellation [^`|…]+)`")


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"constellation {command}", allow_abbrev=False)
    import_module(f"constellation.cli.{command}").configure(parser)
    return parser


def words(line: str) -> list[str]:
    """Of a command, without `constellation`, up to what belongs to the shell."""
    plain = re.sub(r"\$\([^)]*\)", "SUBSTITUTED", line)
    found = shlex.split(plain, comments=True)[1:]
    ends = [i for i, word in enumerate(found) if word in (">", "|", "&&", ";")]
    return found[: ends[0]] if ends else found


def in_blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("constellation "):
                    yield page.relative_to(ROOT).as_posix(), line.strip()


def in_text() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = re.sub(r"\s*\n\s*", " ", BLOCK.sub("", page.read_text()))
        for command in INLINE.findall(text):
            if command.split()[1] in COMMANDS:
                yield page.relative_to(ROOT).as_posix(), command


def option_strings(parser: argparse.ArgumentParser) -> set[str]:
    found = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for inner in action.choices.values() for option in option_strings(inner)}
    return found


@pytest.mark.parametrize(("page", "line"), list(in_blocks()))
def test_command_is_taken_by_its_parser(page: str, line: str) -> None:
    command, *arguments = words(line)
    assert command in COMMANDS, page
    parser_of(command).parse_args(arguments)


@pytest.mark.parametrize(("page", "line"), list(in_text()))
def test_command_within_a_sentence_has_the_options_that_it_names(page: str, line: str) -> None:
    command, *arguments = words(line)
    named = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    assert named <= option_strings(parser_of(command)) | {"--help"}, page


def test_documents_name_commands_at_all() -> None:
    assert {page for page, _ in in_blocks()} >= {
        f"docs/runbooks/{path.name}" for path in (ROOT / "docs/runbooks").glob("*.md") if path.stem != "upgrade"
    }


def test_every_runbook_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [
        path.name for path in (ROOT / "docs/runbooks").glob("*.md") if f"docs/runbooks/{path.name}" not in readme
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, section = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if section and other.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", other.read_text(), re.M)
            assert section in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, target
