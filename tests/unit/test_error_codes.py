"""Every error code is listed with a message and a remedy, and the page is current."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _builder():
    spec = importlib.util.spec_from_file_location("build_error_codes", ROOT / "docs" / "build_error_codes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_code_has_a_message_and_the_page_is_current():
    builder = _builder()
    codes = builder.collect()
    assert len(codes) > 40
    bare = [code for code, entry in codes.items() if not any(entry["messages"])]
    assert bare == []
    assert (ROOT / "docs" / "error_codes.md").read_text("utf-8") == builder.render(), (
        "run python docs/build_error_codes.py"
    )
