"""What the documentation says exists: files, links, commands, options, keys; READMEs agree."""

import re
import subprocess
from pathlib import Path

import click
import pytest

import ledgermq
from ledgermq.admin.mqadmin import cli
from ledgermq.broker import __main__ as mqbroker
from ledgermq.broker.config import KEYS, load_config
from ledgermq.broker.config_inert import INERT
from ledgermq.namesrv.__main__ import main as mqnamesrv
from tests.interop import test_java_clients, test_java_mqadmin

from .blocks import Block, blocks_of

ROOT = Path(__file__).resolve().parents[3]
README, README_ZH = ROOT / "README.md", ROOT / "README.zh.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = blocks_of(README)
# A file or folder as texts name it, between backquotes.
NAMED = re.compile(
    r"`((?:docs|conf|bin|tests|examples|broker|client|dledger|remoting|namesrv|admin|store)"
    r"/[\w./*-]*|[\w-]+\.(?:sh|md|toml))`"
)
# Files that a user or a run makes.
MADE_LATER = {"config/*.json"}
# Fields of requests and routes that look like keys.
WIRE_NAMES = {"storeHost"}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shell_words(pattern: str) -> list[str]:
    return [found for b in COMMANDS if b.language == "sh" for found in re.findall(pattern, b.text)]


# --- both READMEs ---------------------------------------------------------------------------------


def test_there_are_blocks_to_compare() -> None:
    assert len([b for b in COMMANDS if b.language == "sh"]) > 5
    assert len([b for b in COMMANDS if b.language == "python"]) > 3


def test_both_readmes_have_the_same_commands() -> None:
    def without_comments(block: Block) -> tuple[str, str]:
        return block.language, re.sub(r"(?m)^ *#.*\n", "", block.text)

    ours = [without_comments(b) for b in COMMANDS]
    assert [without_comments(b) for b in blocks_of(README_ZH)] == ours


def test_both_readmes_have_the_same_sections_and_rows() -> None:
    def outline(page: Path) -> list[str]:
        lines = re.sub(r"(?s)^```.*?^```$", "", page.read_text(), flags=re.MULTILINE).splitlines()
        return [
            re.sub(r"\w.*| .*", "", line) for line in lines if line.startswith(("#", "|", "- "))
        ]

    assert outline(README) == outline(README_ZH)


def test_both_readmes_link_to_the_same_pages() -> None:
    def links(page: Path) -> list[str]:
        return [
            link.replace(".zh.md", ".md")
            for link in re.findall(r"\]\((\w[^)#]*)\)", page.read_text())
            if link not in {README.name, README_ZH.name}
        ]

    assert links(README) == links(README_ZH)


# --- links and names ------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_are_named_exist(page: Path) -> None:
    missing = []
    for name in NAMED.findall(page.read_text()):
        places = [ROOT, ROOT / "bin", ROOT / "docs", ROOT / "broker", ROOT / "dledger"]
        if not any(list(p.glob(name.rstrip("/"))) for p in places) and name not in MADE_LATER:
            missing.append(name)
    assert not missing


def test_the_architecture_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:\w+/)+\w*(?:\.py)?|\w+\.py)`", text)
    assert len(named) > 15
    packages = ("remoting", "broker", "broker/plain", "dledger")
    places = [ROOT, *(ROOT / package for package in packages)]
    assert not [n for n in named if not any((p / n).exists() for p in places)]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_configuration_keys_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:dLeger|store|flush|mappedFile|broker|offsetFlush|auto)\w*[A-Z]\w*)`",
        page.read_text(),
    )
    keys = {k.name for k in KEYS.values()} | set(INERT)
    assert not [n for n in named if n not in keys and n not in WIRE_NAMES]


# --- snippets and commands ------------------------------------------------------------------------


@pytest.mark.parametrize("page", [README, README_ZH], ids=page_id)
def test_python_snippets_compile_and_have_a_name(page: Path) -> None:
    snippets = [b for b in blocks_of(page) if b.language == "python"]
    assert len({b.file_name for b in snippets}) == len(snippets)
    for snippet in snippets:
        compile(snippet.text, snippet.file_name, "exec")


def test_snippets_import_the_public_api_only() -> None:
    imports = re.findall(
        r"^from (ledgermq\S*) import (.*)$", "\n".join(b.text for b in COMMANDS), re.MULTILINE
    )
    assert imports
    for module, names in imports:
        assert module == "ledgermq"
        assert not [n for n in names.split(", ") if n not in ledgermq.__all__]


def subcommand(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, f"mqadmin has no subcommand {name}"
    return found


@pytest.mark.parametrize("line", shell_words(r"bin/mqadmin (.*)"))
def test_mqadmin_has_what_the_readme_types(line: str) -> None:
    name, _, rest = line.partition(" ")
    known = {opt for p in subcommand(name).params for opt in p.opts}
    assert set(re.findall(r"(?<!\S)--?\w+", rest)) <= known


def test_the_table_lists_the_subcommands_of_mqadmin() -> None:
    row = next(line for line in README.read_text().splitlines() if line.startswith("| `mqadmin` |"))
    listed = [w for w in re.findall(r"`(\w+)`", row) if w != "mqadmin"]
    assert sorted(listed) == sorted(cli.list_commands(click.Context(cli)))
    every = click.Context(subcommand("clusterList")).command.params
    assert any("--json" in p.opts for p in every)


@pytest.mark.parametrize("program", ["mqbroker", "mqnamesrv"])
def test_options_of_the_programs(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(
        line
        for line in README.read_text().splitlines()
        if f"`{program}`" in line and line[0] == "|"
    )
    main = {"mqbroker": mqbroker.main, "mqnamesrv": mqnamesrv}[program]
    with pytest.raises(SystemExit) as ended:
        main(["-h"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    options = re.findall(r"`(-\w)`", row)
    assert len(options) == 5
    assert not [o for o in options if f" {o}," not in shown]


def help_of(script: str) -> str:
    done = subprocess.run(
        ["sh", str(ROOT / script), "help"], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def test_fast_try_has_what_the_pages_type() -> None:
    shown = help_of("fast-try.sh")
    typed = {w for page in PAGES for w in re.findall(r"fast-try\.sh ([a-z-]+)", page.read_text())}
    assert {"start", "stop", "kill-leader"} <= typed
    assert not [w for w in typed if not re.search(rf"^  {w}\b", shown, re.MULTILINE)]


def test_test_sh_has_what_the_pages_type() -> None:
    shown = help_of("test.sh") + "  help  "
    typed = {w for page in PAGES for w in re.findall(r"test\.sh ([a-z]+)", page.read_text())}
    assert not [w for w in typed if f"  {w} " not in shown]


def test_scripts_of_the_command_table_exist() -> None:
    text = README.read_text().partition("| Command | What it does |")[2].partition("\n\n")[0]
    names = [
        n for row in text.splitlines()[2:] for n in re.findall(r"`([\w./-]+)`", row.split("|")[1])
    ]
    assert len(names) >= 6
    assert not [n for n in names if not (ROOT / "bin" / n).is_file()]


def test_the_sample_configuration_is_accepted(tmp_path: Path) -> None:
    (sample,) = [b for b in COMMANDS if b.language == "properties"]
    conf = tmp_path / "broker.conf"
    conf.write_text(sample.text)
    config, warnings = load_config(conf, {}, {})
    assert not warnings
    assert config.sync_flush
    assert len(config.dleger_peers) == 3


# --- claims ---------------------------------------------------------------------------------------


def test_the_versions_of_java_clients_are_the_tested_ones() -> None:
    for page in (README, README_ZH):
        rows = [line for line in page.read_text().splitlines() if "test_java_" in line]
        for module in (test_java_clients, test_java_mqadmin):
            (row,) = [r for r in rows if Path(module.__file__ or "").name in r]
            assert re.findall(r"\d\.\d\.\d", row) == module.VERSIONS


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param("transactional messages", "END_TRANSACTION", id="transactions"),
        pytest.param("POP consumers", "POP_MESSAGE", id="POP"),
        pytest.param("request-reply", "SEND_REPLY_MESSAGE", id="request-reply"),
        pytest.param("resetting offsets", "INVOKE_BROKER_TO_RESET_OFFSET", id="reset offsets"),
    ],
)
def test_what_is_called_not_served_is_not_served(said: str, code: str) -> None:
    missing = README.read_text().partition("## What is not served yet")[2].partition("\n## ")[0]
    features = "".join(p.read_text() for p in (ROOT / "broker" / "features").glob("*.py"))
    served = set(re.findall(r"registry\.add\(RequestCode\.(\w+)", features))
    assert "SEND_MESSAGE" in served
    assert (said in missing) == (code not in served)


def divergences() -> list[list[str]]:
    text = (ROOT / "docs" / "divergence.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0] != "Subject"]


@pytest.mark.parametrize("row", divergences(), ids=lambda row: row[0])
def test_each_divergence_has_both_sides_and_a_reason(row: list[str]) -> None:
    assert len(row) == 4, row
    assert all(cell.strip() for cell in row)
    assert len(row[3].split()) >= 4, "a reason is a sentence"


def test_divergences_of_the_code_are_listed() -> None:
    """A comment that says 'Divergence' has its row, found by the module's request code or words."""
    page = (ROOT / "docs" / "divergence.md").read_text()
    for path in (ROOT / "broker").rglob("*.py"):
        if re.search(r"\bDivergence\b", path.read_text()):
            code = re.match(r'"""(\d+)', path.read_text())
            assert code
            assert f"({code[1]}" in page or f"| {code[1]}," in page, path


def test_the_glossary_explains_each_word() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 30
    assert not [row for row in rows if len(row) != 4 or not all(c.strip() for c in row)]
