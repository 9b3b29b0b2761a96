"""`import st_simdiff`: its names, their types, and what it costs."""

import ast
import pydoc
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import st_simdiff
from st_simdiff import METHODS, cli

ROOT = Path(__file__).parent.parent


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)


def test_importing_it_imports_neither_torch_nor_transformers():
    code = "import sys, st_simdiff; st_simdiff.__version__; print({'torch', 'transformers'} & set(sys.modules))"
    assert run("-c", code).stdout.strip() == "set()"


def test_every_name_is_what_it_is_where_it_is_defined():
    for name in st_simdiff.__all__:
        value = getattr(st_simdiff, name)
        if isinstance(value, type):
            assert value.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        st_simdiff.compres  # noqa: B018


def test_type_checkers_see_the_same_names_at_the_same_places():
    tree = ast.parse(Path(st_simdiff.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname: one.module for one in block.body for alias in one.names}
    assert seen == st_simdiff._MODULES
    assert set(st_simdiff.__all__) == {"__version__", *seen}


def test_every_method_of_this_package_is_exported():
    for method in METHODS.own.values():
        assert getattr(st_simdiff, method.__name__) is method


def test_dir_and_help_list_the_public_names():
    assert set(st_simdiff.__all__) <= set(dir(st_simdiff))
    assert not [name for name in dir(st_simdiff) if re.match("_[^_]", name) or name == "Any"]
    text = pydoc.plain(pydoc.render_doc(st_simdiff))
    listed = text[text.index("CLASSES") :]
    for name in st_simdiff.__all__:
        assert re.search(rf"\b{name}\b", listed), name


def test_the_version_has_one_source(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"st-simdiff {st_simdiff.__version__}"
    assert version("st-simdiff") == st_simdiff.__version__


CALLER = """
import st_simdiff
from st_simdiff import STSimDiff, TokenGrid, make_method

reveal_type(st_simdiff.compress)
reveal_type(make_method("fastv", retention=0.3))
reveal_type(TokenGrid(4, 14, 14).count)
STSimDiff(retenion=0.3)
"""


def test_a_type_checker_of_another_project_sees_signatures(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nmypy_path = {ROOT}\nignore_missing_imports = True\nfollow_imports = silent\n"
        "[mypy-transformers.*,numpy.*,sympy.*]\nfollow_imports = skip\n"  # for speed
    )
    told = run("-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache" / "callers"), "caller.py", folder=tmp_path).stdout
    signature, method, count, *errors = told.splitlines()
    assert '"def (model: torch.nn.modules.module.Module, method: st_simdiff.methods.base.Method' in signature
    assert re.search(r"-> contextlib\S*\[st_simdiff.models.trace.Trace\b", signature)
    assert '"st_simdiff.methods.base.Method"' in method
    assert '"int"' in count
    assert 'Unexpected keyword argument "retenion"' in errors[0]
    assert (Path(st_simdiff.__file__).parent / "py.typed").exists()
