"""What the documents promise is what the code does."""

import re
from pathlib import Path

from rpc_wrapper.config.settings import Settings
from rpc_wrapper.config.variables import flags_markdown, variables_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_readme_lists_every_setting_as_it_is():
    assert variables_markdown().strip() in README, "run scripts/variables-table and put its tables into README.md"
    assert flags_markdown().strip() in README


def test_every_variable_a_document_names_exists():
    known = {f"APP_{name.upper()}" for name in Settings.model_fields} | {"APP_RPC"}
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*.md")]:
        named = set(re.findall(r"\bAPP_[A-Z_]+[A-Z]\b", document.read_text()))
        assert named <= known, f"{document.name} names {sorted(named - known)}"


def test_the_scripts_the_readme_names_are_there():
    for name in set(re.findall(r"\bscripts/([a-z-]+)", README)):
        assert (ROOT / "scripts" / name).is_file(), name
